/** `run`: a private server, the command that is its client, and how both ended. */
import type { Subprocess } from "bun";
import { adoptOrphans } from "../../ffi/process.ts";
import { isEndpointProcess } from "../endpoint/prepare/command.ts";
import { EXIT, messageOf, UserError } from "../errors.ts";
import { descendants, signalAll } from "../process/descendants.ts";
import type { Address } from "../server/address.ts";
import { commandFailure } from "../server/facts.ts";
import { host, type Hosted, type HostOptions } from "../server/host.ts";
import { signalStatus } from "../server/signals.ts";
import type { Verdict } from "../server/summary.ts";
import { captiveVariables, type Variables } from "./command.ts";
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
  /** The command, once it is known what it is told about the server. */
  readonly command: (variables: Variables) => readonly string[];
}

/**
 * Runs the command with the server as its disk.
 *
 * @returns 0 when the command has succeeded and the stream is complete; the command's own status
 *   when it failed; 128 plus its number for a signal
 * @throws UserError when something cannot be started
 */
export async function run(options: RunOptions): Promise<number> {
  const folder = options.address === undefined ? new PrivateFolder() : undefined;
  try {
    const address = options.address ?? { kind: "unix", path: (folder as PrivateFolder).socket };
    return await host({ ...options, address }, async (hosted) => {
      const variables = captiveVariables(hosted.service.address, options.exportName ?? "");
      adoptOrphans();
      // A shell that became this program by exec may have started the stream's reader before.
      const others = new Set(descendants(process.pid));
      const child = spawn(options, variables);
      try {
        const verdict = await accompany(child, hosted, options);
        if (verdict.why !== undefined)
          await endCommand(options.signals.caught ?? "SIGTERM", others);
        return verdict;
      } catch (error) {
        await endCommand("SIGTERM", others);
        throw error;
      }
    });
  } finally {
    folder?.remove();
  }
}

function spawn({ command, target, direction }: RunOptions, variables: Variables): Subprocess {
  const cmd = [...command(variables)];
  // Where standard output or input is the stream, the command's own would get in between.
  const taken = target.kind === "descriptor" ? target.fd : undefined;
  const stdin = direction === "read" && taken === 0 ? "ignore" : "inherit";
  const stdout = direction === "write" && taken === 1 ? 2 : "inherit";
  try {
    return Bun.spawn({
      cmd,
      env: { ...process.env, ...variables },
      stdio: [stdin, stdout, "inherit"],
    });
  } catch (error) {
    const missing = (error as { code?: string }).code === "ENOENT";
    throw new UserError(
      "ERR_COMMAND",
      missing
        ? `cannot run ${cmd[0]}: there is no such command; install it or check its name`
        : `cannot run ${cmd[0]}: ${messageOf(error)}; make it executable (chmod +x)`,
      missing ? EXIT.NOT_FOUND : EXIT.NOT_EXECUTABLE,
    );
  }
}

async function accompany(
  child: Subprocess,
  hosted: Hosted,
  { signals }: RunOptions,
): Promise<Verdict> {
  const { service } = hosted;
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
  if (signals.caught !== undefined) return hosted.interrupted();
  if (status === undefined) return hosted.conclude("command");
  if (status !== 0) {
    // The command may have failed because of what the stream thread is about to report.
    await service.heardAll();
    return { status, why: commandFailure(facts, service.counters.emitted) };
  }
  service.lastWords(LAST_WORDS);
  await service.until(() => service.open === 0 || facts.ended || signals.caught !== undefined);
  return signals.caught === undefined ? hosted.conclude("command") : hosted.interrupted();
}

/** Ends all that the command has started, which is all but a sink's and `others`: asks, then kills. */
async function endCommand(signal: NodeJS.Signals, others: ReadonlySet<number>): Promise<void> {
  const processes = () =>
    descendants(process.pid).filter((pid) => !others.has(pid) && !isEndpointProcess(pid));
  const deadline = performance.now() + KILL_GRACE;
  signalAll(processes(), signal);
  while (processes().length > 0 && performance.now() < deadline) await Bun.sleep(10);
  signalAll(processes(), "SIGKILL");
}
