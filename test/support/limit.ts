/**
 * Milliseconds for one test: real clients move real images, which may take a while, but never for
 * ever. Bun takes a limit only for the file that sets it.
 */
export const LIMIT = 60_000;
