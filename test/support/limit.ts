/**
 * Milliseconds for one test: real clients move real images, which may take a while, but never for
 * ever. Bun takes a limit only for the file that sets it.
 */
export const LIMIT = 120_000;

/**
 * Options of a test in which somebody else has to be done within a time that the program decides, and no option
 * changes: on a busy machine he may be late, and then it is done once more. What is wrong fails each time.
 */
export const IN_TIME = { timeout: LIMIT, retry: 3 };
