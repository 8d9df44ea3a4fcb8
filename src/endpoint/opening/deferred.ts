/** A sink that is opened only when there is something for it: `--hold`. */
import { statSync } from "node:fs";
import type { EndpointHandle, EndpointSpec } from "../spec.ts";
import type { StreamFacts } from "./command.ts";
import { connectUnix } from "./connect.ts";
import type { Endpoint, EndpointControl } from "./endpoint.ts";
import { openEndpoint } from "./open.ts";

/**
 * True for a sink that would notice to be opened, if nothing comes: a command would be started, and a listener
 * have a connection.
 */
export function isDeferred(spec: EndpointSpec): boolean {
  switch (spec.kind) {
    case "exec":
    case "tcp":
      return true;
    case "path":
      return isSocket(spec.path);
    case "descriptor":
      return false;
  }
}

/** False where that cannot be found out: opening it tells why. */
function isSocket(path: string): boolean {
  try {
    return statSync(path).isSocket();
  } catch {
    return false;
  }
}

/**
 * Opens a sink for which {@link isDeferred} has held.
 *
 * @param attempt as for `openEndpoint`
 * @throws as `openEndpoint`
 */
export async function openDeferred(
  spec: EndpointSpec,
  facts: StreamFacts,
  attempt: Parameters<typeof openEndpoint>[3],
): Promise<Endpoint> {
  // Whatever has the name by now: where there is nothing, a FIFO would be made and wait for a reader.
  if (spec.kind === "path") return connectUnix(spec.path);
  return await openEndpoint(spec, "write", facts, attempt);
}

/** Does nothing until {@link open} is called; from then on it is what was opened. */
export class DeferredSink implements EndpointControl {
  readonly #open: (size: bigint, stop: AbortSignal) => Promise<Endpoint>;
  #opened: Endpoint | undefined;
  #cancelled = false;
  #emitted: (() => number) | undefined;

  /** @param open opens the endpoint, as `openEndpoint` does */
  constructor(
    readonly name: string,
    open: (size: bigint, stop: AbortSignal) => Promise<Endpoint>,
  ) {
    this.#open = open;
  }

  /**
   * @param size the stream's length in bytes, which is known by then
   * @param stop ends an attempt that takes long
   * @returns what the stream thread opens
   * @throws as `openEndpoint`
   */
  async open(size: bigint, stop: AbortSignal): Promise<EndpointHandle> {
    const opened = await this.#open(size, stop);
    this.#opened = opened;
    if (this.#emitted !== undefined) opened.follow?.(this.#emitted);
    if (this.#cancelled) await opened.cancel();
    return opened.handle;
  }

  get hasExitStatus(): boolean {
    return this.#opened?.hasExitStatus ?? false;
  }

  get killedBy(): NodeJS.Signals | number | undefined {
    return this.#opened?.killedBy;
  }

  async cancel(): Promise<void> {
    this.#cancelled = true;
    await this.#opened?.cancel();
  }

  async waitForExit(stop: AbortSignal): Promise<string | undefined> {
    return await this.#opened?.waitForExit(stop);
  }

  follow(emitted: () => number): void {
    this.#emitted = emitted;
  }

  async describeExit(): Promise<string | undefined> {
    return await this.#opened?.describeExit?.();
  }

  remove(): void {
    this.#opened?.remove();
  }
}
