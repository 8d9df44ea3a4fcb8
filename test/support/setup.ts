/** Loaded before every test file. */
import { setDefaultTimeout } from "bun:test";

// Real clients move real images: a test may take a while, but never for ever.
setDefaultTimeout(60_000);
