/** `run`: a private server, and the command that is its client. */
import { cleaningUp } from "../clean-up.ts";
import { messageOf } from "../errors.ts";
import { signalAll } from "../process/proc.ts";
import { ProcessTree } from "../process/process-tree.ts";
import { forwardedSignal, signalStatus } from "../process/signals.ts";
import type { Address } from "../net/address.ts";
import { commandFailure, type StreamState } from "../server/stream-state.ts";
import type { Verdict } from "../server/exit-status.ts";
import { host, type HostedStream, type StreamResult } from "../server/host.ts";
import type { HostOptions } from "../server/settings.ts";
import type { EndCondition } from "../server/stream-end.ts";
import type { StreamServer } from "../server/stream-server.ts";
import { captiveVariables, notExecutable, type Variables } from "./command.ts";
import { drainCaptive, Survivors } from "./drain.ts";
import { PrivateFolder } from "./private-folder.ts";

/** The environment variable by which the command's processes are found. */
const MARK = "NBD_STREAMING_COMMAND";

/** Milliseconds between the signal that asks processes to end and SIGKILL. */
const KILL_GRACE = 300;

export interface RunOptions extends Omit<HostOptions, "entrance"> {
  /** Where to listen; undefined for a private Unix socket. */
  readonly address: Address | undefined;
  /** Returns the command's words. */
  readonly command: (variables: Variables) => readonly string[];
  /** The image that the command copies, if it is the qemu-img(1) of a shortcut. */
  readonly image?: string | undefined;
  /** The command's standard output goes to standard error. */
  readonly outputTaken?: boolean;
}

export interface CaptiveResult extends StreamResult {
  /** The command's exit status, or 128 plus a signal's number; undefined if it had not ended. */
  readonly commandStatus: number | undefined;
}

/**
 * Runs the command with the server as its disk. The status of the result is 0 when the command has
 * succeeded and the stream is complete; the command's own when it has failed.
 *
 * @throws UserError when something cannot be started
 */
export async function run(options: RunOptions): Promise<CaptiveResult> {
  const folder = options.address === undefined ? new PrivateFolder() : undefined;
  let command: Command | undefined;
  return await cleaningUp(
    async () => {
      const entrance = options.address ?? { kind: "unix", path: (folder as PrivateFolder).socket };
      const [result] = await host([{ ...options, entrance }], async (stream, nbd) => {
        const address = nbd.address ?? entrance;
        command = new Command(options, address, stream.server);
        return await withCommand(command, stream, options);
      });
      return { ...(result as StreamResult), commandStatus: command?.status };
    },
    () => {
      const left = folder?.remove();
      if (left !== undefined) options.log.warn(left);
    },
  );
}

async function withCommand(
  command: Command,
  stream: HostedStream,
  options: RunOptions,
): Promise<Verdict> {
  const { tree } = command;
  let verdict: Verdict | undefined;
  return await cleaningUp(
    async () => (verdict = await stream.awaitEnd(commandExited(command, stream.server, options))),
    async () => {
      if (verdict !== undefined && verdict.why === undefined) return;
      // In this order: a reader must not see the end of the stream while the command has time to end.
      const cancelled = stream.cancel();
      await endTree(tree, forwardedSignal(options.stopSignal.caught ?? "SIGTERM"));
      await cancelled;
    },
    () => tree.release(),
  );
}

/** The running command; its end makes the server check its conditions again. */
class Command {
  readonly tree: ProcessTree;
  /** The exit status, or 128 plus a signal's number; undefined while it runs. */
  status: number | undefined;

  constructor(options: RunOptions, address: Address, server: StreamServer) {
    const { exportName = "", security } = options;
    this.tree = spawn(options, captiveVariables(address, exportName, security));
    const child = this.tree.child;
    void child.exited.then(() => {
      const { signalCode, exitCode } = child;
      this.status = signalCode === null ? (exitCode ?? 0) : signalStatus(signalCode);
      server.poke();
    });
  }
}

function spawn(options: RunOptions, variables: Variables): ProcessTree {
  const { spec, direction, outputTaken = false } = options;
  const cmd = options.command(variables);
  // The command must not use a standard input or output that is the stream.
  const taken = spec.kind === "descriptor" ? spec.fd : undefined;
  const stdin = direction === "read" && taken === 0 ? "null" : 0;
  const stdout = outputTaken || (direction === "write" && taken === 1) ? 2 : 1;
  try {
    return new ProcessTree(MARK, {
      cmd,
      env: { ...process.env, ...variables },
      stdio: [stdin, stdout, 2],
    });
  } catch (error) {
    const missing = (error as { code?: string }).code === "ENOENT";
    throw notExecutable(cmd[0] ?? "", missing ? undefined : messageOf(error));
  }
}

function commandExited(
  command: Command,
  server: StreamServer,
  { stopSignal, direction, image, dryRun }: RunOptions,
): EndCondition {
  const { state } = server;
  const hasExited = () => command.status !== undefined;
  return {
    completedBy: "command",
    done: (isOver) => server.until(() => isOver() || hasExited()),
    isGone: hasExited,
    async drain() {
      const isStopped = () => stopSignal.caught !== undefined;
      if (isStopped()) return false;
      const over = () => isStopped() || state.ended || isLost(state);
      // The command may have failed because of an error that the stream thread is about to report.
      if (command.status !== 0) await server.sync();
      else await drainCaptive(server, new Survivors(command.tree), over);
      return false;
    },
    commandFailure() {
      const { status } = command;
      if (status === undefined || status === 0) return undefined;
      const { emitted } = server.counters;
      const failed = { direction, image, connected: state.connected, emitted };
      return { status, why: commandFailure(state, status, dryRun === true ? undefined : failed) };
    },
  };
}

/** True when the stream is known to be truncated. */
function isLost({ failure, refused, dropped }: StreamState): boolean {
  return failure !== undefined || refused !== undefined || dropped;
}

/** Ends the command and all that it has started: asks, then kills. */
async function endTree(tree: ProcessTree, signal: NodeJS.Signals): Promise<void> {
  const deadline = performance.now() + KILL_GRACE;
  signalAll(tree.members(), signal);
  while (tree.members().length > 0 && performance.now() < deadline) await Bun.sleep(10);
  signalAll(tree.members(), "SIGKILL");
}
