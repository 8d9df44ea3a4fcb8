/** The library's entry point. docs/library.md has examples. */
export { type ErrorCode, UserError } from "./errors.ts";
export type { RunOptions, ServeOptions, StreamOptions, TlsOptions } from "./library/options.ts";
export type {
  OwnOptions,
  RunStreamsOptions,
  ServeStreamsOptions,
  Several,
} from "./library/several.ts";
export {
  Streams,
  type StreamsEvents,
  type StreamSummary,
  TruncatedStreamsError,
} from "./library/streams.ts";
export { run } from "./library/run.ts";
export { serve } from "./library/serve.ts";
export type { Size } from "./size.ts";
export {
  type Listening,
  Streaming,
  type StreamingEvents,
  TruncatedError,
} from "./library/streaming.ts";
export type { Message } from "./library/watched.ts";
export type { Snapshot as Progress } from "./progress/watch.ts";
export type { Address, Entrance } from "./net/address.ts";
export type { Summary } from "./server/summary.ts";
