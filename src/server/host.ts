/** The frame around every stream: what is made before it and cleaned up after it. */
import { NotAFifoError, type PreparedFifo, prepareFifo } from "../endpoint/fifo.ts";
import { EXIT, messageOf, UserError } from "../errors.ts";
import { type Judge, shortcoming } from "./facts.ts";
import { PidFile } from "./pid-file.ts";
import { Service, type ServiceOptions } from "./service.ts";
import { type Signals, signalStatus } from "./signals.ts";

/** Milliseconds that the end of a stream may take when a signal has asked for it. */
const SIGNAL_GRACE = 500;

export interface HostOptions extends ServiceOptions {
  readonly signals: Signals;
  /** Where to write the process id once clients can connect. */
  readonly pidFile: string | undefined;
}

/**
 * Runs `body` with a service for one stream. Whatever happens, nothing is left behind: no socket, no
 * thread, no pid file, and no FIFO that was not there before.
 *
 * @throws UserError when the service cannot be had
 */
export async function host(
  options: HostOptions,
  body: (service: Service) => Promise<number>,
): Promise<number> {
  const fifo = prepare(options.sink.path);
  let pidFile: PidFile | undefined;
  try {
    const service = new Service(options);
    const unsubscribe = options.signals.subscribe(() => service.poke());
    try {
      if (options.pidFile !== undefined) pidFile = new PidFile(options.pidFile);
      return await body(service);
    } finally {
      unsubscribe();
      if (!service.facts.ended) service.abort();
      await service.close();
    }
  } finally {
    pidFile?.remove();
    fifo.remove();
  }
}

function prepare(path: string): PreparedFifo {
  try {
    return prepareFifo(path);
  } catch (error) {
    const why =
      error instanceof NotAFifoError
        ? `it ${error.message}; ${error.hint}`
        : `${messageOf(error)}; check the folder and its permissions`;
    throw new UserError("ERR_PIPE", `pipe=${path} cannot be used: ${why}`);
  }
}

/**
 * Ends a stream whose clients are all gone: well, if nothing is wrong with it.
 *
 * @param pad lengthen a stream that is complete to its full size with zeroes
 * @returns the exit status of a complete stream, or that of a signal which cut its end short
 * @throws UserError ERR_TRUNCATED
 */
export async function conclude(
  service: Service,
  options: HostOptions,
  judge: Judge,
  pad: boolean,
): Promise<number> {
  const { facts } = service;
  const { signals } = options;
  let wrong = shortcoming(facts, judge, options.size);
  if (wrong === undefined) {
    service.finish(pad);
    if (signals.caught !== undefined) await service.until(() => facts.ended, SIGNAL_GRACE);
    else await service.until(() => facts.ended || signals.caught !== undefined);
    if (!facts.ended && signals.caught !== undefined) return signalStatus(signals.caught);
    wrong = shortcoming(facts, judge, options.size);
  }
  if (facts.crash !== undefined) throw facts.crash;
  if (wrong === undefined) return EXIT.COMPLETE;
  throw new UserError("ERR_TRUNCATED", `the stream is truncated: ${wrong}`, EXIT.TRUNCATED);
}
