/** The failures of an endpoint, told apart from the program's and from a client's. */
import { SyscallError } from "../../ffi/errno.ts";

/** A sink or a source has failed for good; `cause` is the call that found out. */
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

/** What {@link endpointCall} throws, for calls of every request: those make no function for it. */
export function toEndpointError(error: unknown): unknown {
  return error instanceof SyscallError ? new EndpointError(error) : error;
}
