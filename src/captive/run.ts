/** `run`: a private server, and the command that is its client. */
import { cleaningUp } from "../clean-up.ts";
import { messageOf } from "../errors.ts";
import { signalAll } from "../process/proc.ts";
import { ProcessTree } from "../process/process-tree.ts";
import { type EndSignal, forwardedSignal, signalStatus } from "../process/signals.ts";
import type { Address } from "../net/address.ts";
import { commandFailure, type StreamState } from "../server/stream-state.ts";
import type { Verdict } from "../server/exit-status.ts";
import { host, type HostedStream } from "../server/host.ts";
import type { StreamResult } from "../server/summary.ts";
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

/** A stream of the command. */
export type CaptiveStream = Omit<HostOptions, "entrance">;

export interface RunOptions {
  /** At least one; what the server needs is the same in all of them. */
  readonly streams: readonly CaptiveStream[];
  /** Where to listen; undefined for a private Unix socket. */
  readonly address: Address | undefined;
  /** Returns the command's words. */
  readonly command: (variables: Variables) => readonly string[];
  /** The image that the command copies, if it is the qemu-img(1) of a shortcut. */
  readonly image?: string | undefined;
  /** The command's standard output goes to standard error. */
  readonly outputTaken?: boolean;
}

export interface CaptiveResult {
  /** Of the streams, in the same order. */
  readonly results: readonly StreamResult[];
  /** The command's exit status, or 128 plus a signal's number; undefined if it had not ended. */
  readonly commandStatus: number | undefined;
}

/**
 * Runs the command with the server as its disk or disks. The status of a result is 0 when the command has
 * succeeded and the stream is complete; the command's own when it has failed.
 *
 * @throws UserError when something cannot be started
 */
export async function run(options: RunOptions): Promise<CaptiveResult> {
  const { log } = options.streams[0] as CaptiveStream;
  const folder = options.address === undefined ? new PrivateFolder() : undefined;
  let command: Command | undefined;
  return await cleaningUp(
    async () => {
      const entrance = options.address ?? { kind: "unix", path: (folder as PrivateFolder).socket };
      const streams = options.streams.map((stream) => ({ ...stream, entrance }));
      const results = await host(streams, async (stream, nbd) => {
        command ??= new Command(options, nbd.address ?? entrance);
        return await withCommand(command, stream, options);
      });
      return { results, commandStatus: command?.status };
    },
    () => {
      const left = folder?.remove();
      if (left !== undefined) log.warn(left);
    },
  );
}

async function withCommand(
  command: Command,
  stream: HostedStream,
  options: RunOptions,
): Promise<Verdict> {
  const { server } = stream;
  let verdict: Verdict | undefined;
  return await cleaningUp(
    async () => {
      command.watch(server);
      verdict = await stream.awaitEnd(commandExited(command, stream, options));
      return verdict;
    },
    async () => {
      const failed = verdict === undefined || verdict.why !== undefined;
      // In this order: a reader must not see the end of the stream while the command has time to end.
      const cancelled = failed ? stream.cancel() : undefined;
      await command.streamEnded(failed, stream.options.stopSignal.caught);
      await cancelled;
    },
  );
}

/** The running command; its end makes the streams check their conditions again. */
class Command {
  readonly tree: ProcessTree;
  /** The exit status, or 128 plus a signal's number; undefined while it runs. */
  status: number | undefined;
  readonly #servers: StreamServer[] = [];
  /** Streams that have not ended. */
  #left: number;
  #failed = false;

  constructor(options: RunOptions, address: Address) {
    this.#left = options.streams.length;
    this.tree = spawn(
      options,
      captiveVariables(address, namesOf(options.streams), options.streams[0]?.security),
    );
    const child = this.tree.child;
    void child.exited.then(() => {
      const { signalCode, exitCode } = child;
      this.status = signalCode === null ? (exitCode ?? 0) : signalStatus(signalCode);
      for (const server of this.#servers) server.poke();
    });
  }

  watch(server: StreamServer): void {
    this.#servers.push(server);
  }

  /** Ends what is left of the command when the last stream has ended, if one of them is not complete. */
  async streamEnded(failed: boolean, signal: EndSignal | undefined): Promise<void> {
    this.#failed ||= failed;
    this.#left--;
    if (this.#left > 0) return;
    if (this.#failed) await endTree(this.tree, forwardedSignal(signal ?? "SIGTERM"));
    this.tree.release();
  }
}

/** The names of the exports; one that is not given is empty. */
function namesOf(streams: readonly CaptiveStream[]): string[] {
  return streams.map(({ exportName = "" }) => exportName);
}

function spawn(options: RunOptions, variables: Variables): ProcessTree {
  const { streams, outputTaken = false } = options;
  const cmd = options.command(variables);
  // The command must not use a standard input or output that is a stream.
  const isTaken = (of: CaptiveStream["direction"], fd: number) =>
    streams.some(
      ({ spec, direction }) => direction === of && spec.kind === "descriptor" && spec.fd === fd,
    );
  const stdin = isTaken("read", 0) ? "null" : 0;
  const stdout = outputTaken || isTaken("write", 1) ? 2 : 1;
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
  { server, options }: HostedStream,
  { image }: RunOptions,
): EndCondition {
  const { stopSignal, direction, dryRun, several, hold: held } = options;
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
      const exportName = several === undefined ? undefined : options.exportName;
      const { connected } = state;
      const failed = { direction, image, exportName, connected, emitted, held };
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
