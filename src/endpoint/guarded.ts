/** The sink's failures, told apart from the program's. */
import { SyscallError } from "../../ffi/errno.ts";
import { SinkError } from "./sink.ts";

/** Runs a call on a sink. @throws SinkError in place of a SyscallError */
export function guarded<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw error instanceof SyscallError ? new SinkError(error) : error;
  }
}
