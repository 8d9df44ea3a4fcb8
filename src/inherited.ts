/**
 * To be imported before everything else: what is loaded later opens descriptors of its own, under
 * numbers that a user may name by mistake.
 */
import { rememberDescriptors } from "./process/inherited.ts";

rememberDescriptors();
