/** `run`: a private server, the command that is its client, and how both ended. */
import type { Subprocess } from "bun";
import { adoptOrphans } from "../../ffi/process.ts";
import { EXIT, messageOf, UserError } from "../errors.ts";
import type { Address } from "../server/address.ts";
import { conclude, host, type HostOptions } from "../server/host.ts";
import type { Service } from "../server/service.ts";
import { signalStatus } from "../server/signals.ts";
import { type Variables, captiveVariables, captiveWords } from "./command.ts";
import { descendants, signalDescendants } from "./descendants.ts";
import { PrivateFolder } from "./private-folder.ts";

/** Milliseconds for the command to end by itself after the stream has broken. */
const ERROR_GRACE = 400;
/** Milliseconds from asking processes to end to killing them. */
const KILL_GRACE = 300;
/** Milliseconds of silence from a client that has outlived the command. */
const LAST_WORDS = 500;

export interface RunOptions extends Omit<HostOptions, "address"> {
  /** Where to listen; undefined is a private Unix socket. */
  readonly address: Address | undefined;
  /** The command: one word for the shell, or several to execute as they are. */
  readonly command: readonly string[];
  /** The stream is to be as long as `size`, whatever the client leaves out at its end. */
  readonly pad: boolean;
}

/**
 * Runs the command with the server as its disk.
 *
 * @returns 0 when the command has succeeded and the stream is complete; the command's own status
 *   when it failed; 128 plus its number for a signal
 * @throws UserError ERR_TRUNCATED when the command succeeded but the stream is not complete, other
 *   codes when something cannot be started
 */
export async function run(options: RunOptions): Promise<number> {
  const folder = options.address === undefined ? new PrivateFolder() : undefined;
  try {
    const address = options.address ?? { kind: "unix", path: (folder as PrivateFolder).socket };
    const hostOptions: HostOptions = { ...options, address };
    return await host(hostOptions, async (service) => {
      const variables = captiveVariables(service.address, options.exportName ?? "");
      adoptOrphans();
      const child = spawn(options.command, variables);
      try {
        return await accompany(child, service, hostOptions, options);
      } catch (error) {
        await endDescendants("SIGTERM");
        throw error;
      }
    });
  } finally {
    folder?.remove();
  }
}

function spawn(command: readonly string[], variables: Variables): Subprocess {
  const cmd = captiveWords(command, variables);
  try {
    return Bun.spawn({
      cmd,
      env: { ...process.env, ...variables },
      stdio: ["inherit", "inherit", "inherit"],
    });
  } catch (error) {
    const missing = (error as { code?: string }).code === "ENOENT";
    throw new UserError(
      "ERR_COMMAND",
      missing
        ? `cannot run ${cmd[0]}: there is no such command; install it or check its name`
        : `cannot run ${cmd[0]}: ${messageOf(error)}`,
      missing ? EXIT.NOT_FOUND : EXIT.NOT_EXECUTABLE,
    );
  }
}

async function accompany(
  child: Subprocess,
  service: Service,
  hostOptions: HostOptions,
  { signals, pad }: RunOptions,
): Promise<number> {
  const { facts } = service;
  let status: number | undefined;
  void child.exited.then(() => {
    status = child.signalCode === null ? (child.exitCode ?? 0) : signalStatus(child.signalCode);
    service.poke();
  });
  const over = () => status !== undefined || signals.caught !== undefined || facts.ended;
  await service.until(() => over() || facts.failure !== undefined);
  // The stream is lost: the command sees the errors, and most end by themselves.
  if (!over()) await service.until(over, ERROR_GRACE);
  if (signals.caught !== undefined) {
    await endDescendants(signals.caught);
    return signalStatus(signals.caught);
  }
  if (status === undefined) {
    await endDescendants("SIGTERM");
    return conclude(service, hostOptions, "command", pad);
  }
  if (status !== 0) {
    await endDescendants("SIGTERM");
    // The command may have ended because of what the stream thread is about to report.
    service.abort();
    await service.until(() => facts.ended);
    throw commandFailed(status, facts.failure?.message, service.counters.emitted);
  }
  service.lastWords(LAST_WORDS);
  await service.until(() => service.open === 0 || facts.ended || signals.caught !== undefined);
  if (signals.caught !== undefined) {
    await endDescendants(signals.caught);
    return signalStatus(signals.caught);
  }
  return conclude(service, hostOptions, "command", pad);
}

function commandFailed(status: number, failure: string | undefined, emitted: number): UserError {
  const why = failure ?? `the command failed with the stream at byte ${emitted}: see its message`;
  return new UserError("ERR_TRUNCATED", `the stream is truncated: ${why}`, status);
}

/** Ends all that the command has started: first asks, then kills. */
async function endDescendants(signal: NodeJS.Signals): Promise<void> {
  const deadline = performance.now() + KILL_GRACE;
  signalDescendants(signal);
  while (descendants(process.pid).length > 0 && performance.now() < deadline) await Bun.sleep(10);
  signalDescendants("SIGKILL");
}
