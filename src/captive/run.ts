/** `run`: a private server, and the command that is its client. */
import { cleaningUp } from "../clean-up.ts";
import { SpoolPath } from "../files/spool-path.ts";
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

/** Milliseconds between two looks at what the command has written into a disk as a file. */
const MEASURE_INTERVAL = 200;

/** Milliseconds between the signal that asks processes to end and SIGKILL. */
const KILL_GRACE = 300;

/** A stream of the command. */
export type CaptiveStream = Omit<HostOptions, "entrance" | "onSpool">;

/** The same with a server, and with its disk as a file. */
interface PreparedStream extends HostOptions {
  /** Undefined for one that is not held. */
  readonly spoolPath: SpoolPath | undefined;
}

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
  const held = new DisposableStack();
  let command: Command | undefined;
  return await cleaningUp(
    async () => {
      const entrance = options.address ?? { kind: "unix", path: (folder as PrivateFolder).socket };
      const streams = options.streams.map((stream): PreparedStream => {
        const spoolPath = stream.hold ? held.use(new SpoolPath()) : undefined;
        return { ...stream, entrance, spoolPath, onSpool: (fd) => spoolPath?.open(fd) };
      });
      const results = await host(streams, async (stream, nbd) => {
        command ??= new Command(options, streams, nbd.address ?? entrance);
        return await withCommand(command, stream, options);
      });
      return { results, commandStatus: command?.status };
    },
    () => held.dispose(),
    () => {
      const left = folder?.remove();
      if (left !== undefined) log.warn(left);
    },
  );
}

async function withCommand(
  command: Command,
  stream: HostedStream<PreparedStream>,
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
    // Other streams may go on for long, and this one's disk is not needed any more.
    () => {
      if (command.status !== undefined) stream.options.spoolPath?.release();
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

  constructor(options: RunOptions, streams: readonly PreparedStream[], address: Address) {
    this.#left = streams.length;
    const exports = streams.map(({ exportName: name = "", spoolPath }) => {
      return { name, spool: spoolPath?.path };
    });
    const files = streams.flatMap(({ spoolPath }) => spoolPath?.target ?? []);
    this.tree = spawn(options, captiveVariables(address, exports, streams[0]?.security), files);
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

/** @param files that only the command and its descendants open, as links in /proc show them */
function spawn(options: RunOptions, variables: Variables, files: readonly string[]): ProcessTree {
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
      files,
    });
  } catch (error) {
    const missing = (error as { code?: string }).code === "ENOENT";
    throw notExecutable(cmd[0] ?? "", missing ? undefined : messageOf(error));
  }
}

function commandExited(
  command: Command,
  { server, options }: HostedStream<PreparedStream>,
  { image }: RunOptions,
): EndCondition {
  const { stopSignal, direction, dryRun, several, hold, spoolPath } = options;
  const { state } = server;
  const hasExited = () => command.status !== undefined;
  const measure = () => {
    if (spoolPath === undefined) return;
    const { length, room } = spoolPath.measure();
    server.filled(length, room);
  };
  return {
    completedBy: "command",
    async done(isOver) {
      const timer = spoolPath && setInterval(measure, MEASURE_INTERVAL);
      await server.until(() => isOver() || hasExited());
      clearInterval(timer);
    },
    isGone: hasExited,
    async drain() {
      const isStopped = () => stopSignal.caught !== undefined;
      if (isStopped()) return false;
      const over = () => isStopped() || state.ended || isLost(state);
      // The command may have failed because of an error that the stream thread is about to report.
      if (command.status !== 0) await server.sync();
      else await drainAll(server, new Survivors(command.tree, spoolPath), spoolPath, over);
      measure();
      return false;
    },
    commandFailure() {
      const { status } = command;
      if (status === undefined || status === 0) return undefined;
      const { emitted } = server.counters;
      const exportName = several === undefined ? undefined : options.exportName;
      const { connected, filled } = state;
      const facts = { connected, filled, held: hold, emitted };
      const failed = { direction, image, exportName, ...facts };
      return { status, why: commandFailure(state, status, dryRun === true ? undefined : failed) };
    },
  };
}

/** Waits for all that may still change the stream, from then on also its disk as a file. */
async function drainAll(
  server: StreamServer,
  survivors: Survivors,
  spoolPath: SpoolPath | undefined,
  over: () => boolean,
): Promise<void> {
  await drainCaptive(server, survivors, over);
  spoolPath?.shut();
  // Somebody may have opened it just before.
  if (spoolPath?.users().length === 0 || server.state.leftBehind !== undefined) return;
  await drainCaptive(server, survivors, over);
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
  tree.kill();
}
