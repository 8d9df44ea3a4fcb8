/** Where in the stream faults are injected. */
import { PIECE, SIZE } from "../case.ts";

export interface Position {
  readonly at: string;
  /** Bytes from the start of the stream. */
  readonly byte: number;
}

/** Of a reader or a writer, which can stop at any byte. */
const START: Position = { at: "start", byte: 5_000 };
const MIDDLE: Position = { at: "middle", byte: SIZE / 2 + 12_345 };
const END: Position = { at: "end", byte: SIZE - 5_000 };
export const BEFORE: Position = { at: "before", byte: 0 };
export const AFTER: Position = { at: "after", byte: SIZE };

export const POSITIONS = [START, MIDDLE, END];

/** Of a client, which can stop at or in the request there. */
export const PIECES: readonly Position[] = [
  { at: "start", byte: PIECE },
  { at: "middle", byte: SIZE / 2 },
  { at: "end", byte: SIZE - PIECE },
];

export const MIDDLE_PIECE = PIECES[1] as Position;

/**
 * Of a reader that has the program wait for it: near the end there is still more left than pipes and
 * requests in flight hold.
 */
export const HELD: readonly Position[] = [START, MIDDLE, { at: "end", byte: SIZE - 10 * PIECE }];
