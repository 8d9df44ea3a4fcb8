/**
 * Must be imported before everything else: modules that are loaded later open descriptors, whose
 * numbers a user may name by mistake.
 */
import { rememberDescriptors } from "./process/inherited.ts";

rememberDescriptors();
