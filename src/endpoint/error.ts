/** Failures of an endpoint, as opposed to the program's own and a client's. */
import { SyscallError } from "../../ffi/errno.ts";

/** A sink or a source has failed and cannot be used any more; `cause` is the call that failed. */
export class EndpointError extends Error {
  override readonly name = "EndpointError";
  constructor(override readonly cause: SyscallError) {
    super(cause.message, { cause });
  }
}

/** Runs a call on a sink or a source. @throws EndpointError in place of a SyscallError */
export function endpointCall<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw toEndpointError(error);
  }
}

/** The error that {@link endpointCall} throws, for the hot path, which must not create a closure. */
export function toEndpointError(error: unknown): unknown {
  return error instanceof SyscallError ? new EndpointError(error) : error;
}
