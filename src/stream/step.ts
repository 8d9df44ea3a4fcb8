/**
 * What a step of a connection returns: {@link MORE}, {@link CALLED}, {@link YIELD}, {@link INPUT_ENDED},
 * or what it waits for, a set of `WAIT_` bits. It is a number so that a request leaves no garbage.
 */
export type Step = number;

/** There may be more to do at once. */
export const MORE = 0;
/** Waits until the client's socket has something to read. */
export const WAIT_INPUT = 1 << 0;
/** Waits until the client's socket takes more replies. */
export const WAIT_OUTPUT = 1 << 1;
/** Waits until the sink takes, or the source gives, more. */
export const WAIT_ENDPOINT = 1 << 2;
/** Waits until another connection's request is complete. */
export const WAIT_TURN = 1 << 3;
/** Waits for nothing, but other connections have their turn first. */
export const YIELD = 1 << 4;
/** {@link MORE} after a system call, of which a connection has a limited number in one turn. */
export const CALLED = 1 << 5;
/** The client has closed its side in the middle of a payload. */
export const INPUT_ENDED = 1 << 6;
