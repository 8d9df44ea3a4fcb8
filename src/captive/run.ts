/** `run`: a private server, the command that is its client, and how both ended. */
import { cleaningUp } from "../clean-up.ts";
import { messageOf } from "../errors.ts";
import { signalAll } from "../process/proc.ts";
import { ProcessTree } from "../process/process-tree.ts";
import { askingToEnd, signalStatus } from "../process/signals.ts";
import type { Address } from "../net/address.ts";
import { commandFailure, type StreamState } from "../server/stream-state.ts";
import { host, type HostedStream, type HostOptions, type StreamResult } from "../server/host.ts";
import type { Verdict } from "../server/summary.ts";
import { captiveVariables, notExecutable, type Variables } from "./command.ts";
import { drainCaptive, Survivors } from "./drain.ts";
import { PrivateFolder } from "./private-folder.ts";

/** In the environment of the command and of all that it starts. */
const MARK = "NBD_STREAMING_COMMAND";

/** Milliseconds for the command to end by itself after the stream has broken. */
const ERROR_GRACE = 400;
/** Milliseconds from asking processes to end to killing them. */
const KILL_GRACE = 300;

export interface RunOptions extends Omit<HostOptions, "entrance"> {
  /** Where to listen; undefined is a private Unix socket. */
  readonly address: Address | undefined;
  /** The command, once it is known what it is told about the server. */
  readonly command: (variables: Variables) => readonly string[];
  /** What the command copies, where it is qemu-img(1) with words of ours. */
  readonly image?: string | undefined;
  /** Standard output is taken: what the command writes there goes to standard error. */
  readonly outputTaken?: boolean;
}

/** The command while it runs; the server's conditions are looked at again when it has ended. */
export interface Captive {
  /** Its exit status, 128 plus the number for a signal; undefined while it runs. */
  readonly status: number | undefined;
  /** Those of its processes that live when it has ended. */
  readonly survivors: Survivors;
}

/** How a command is seen through to its end. */
export type Attend = (
  captive: Captive,
  stream: HostedStream,
  options: RunOptions,
) => Promise<Verdict>;

/**
 * Runs the command with the server as its disk. The status of the outcome is 0 when the command has
 * succeeded and the stream is complete; the command's own when it has failed.
 *
 * @throws UserError when something cannot be started
 */
export function run(options: RunOptions): Promise<StreamResult> {
  return runCaptive(options, accompany);
}

/**
 * Runs the command with the server as its disk, and leaves the verdict to `attend`.
 *
 * @throws UserError when something cannot be started
 */
export async function runCaptive(options: RunOptions, attend: Attend): Promise<StreamResult> {
  const folder = options.address === undefined ? new PrivateFolder() : undefined;
  return await cleaningUp(
    () => {
      const entrance = options.address ?? { kind: "unix", path: (folder as PrivateFolder).socket };
      return host({ ...options, entrance }, (stream) => {
        const address = stream.server.address ?? entrance;
        return withCommand(options, address, stream, attend);
      });
    },
    () => {
      const left = folder?.remove();
      if (left !== undefined) options.log.warn(left);
    },
  );
}

async function withCommand(
  options: RunOptions,
  address: Address,
  stream: HostedStream,
  attend: Attend,
): Promise<Verdict> {
  const { stopSignal, exportName = "", security } = options;
  const tree = spawn(options, captiveVariables(address, exportName, security));
  let verdict: Verdict | undefined;
  return await cleaningUp(
    async () => (verdict = await attend(follow(tree, stream), stream, options)),
    async () => {
      if (verdict !== undefined && verdict.why === undefined) return;
      // In this order: the command is given time, in which whoever takes the stream must not go on.
      const cancelled = stream.cancel();
      await endFamily(tree, askingToEnd(stopSignal.caught ?? "SIGTERM"));
      await cancelled;
    },
    () => tree.release(),
  );
}

function spawn(options: RunOptions, variables: Variables): ProcessTree {
  const { spec, direction, outputTaken = false } = options;
  const cmd = options.command(variables);
  // Where standard output or input is the stream, the command's own would get in between.
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

function follow(tree: ProcessTree, { server }: HostedStream): Captive {
  const child = tree.leader;
  const captive: { status: number | undefined; readonly survivors: Survivors } = {
    status: undefined,
    survivors: new Survivors(tree),
  };
  void child.exited.then(() => {
    const { signalCode, exitCode } = child;
    captive.status = signalCode === null ? (exitCode ?? 0) : signalStatus(signalCode);
    server.poke();
  });
  return captive;
}

async function accompany(
  captive: Captive,
  stream: HostedStream,
  { stopSignal, direction, image }: RunOptions,
): Promise<Verdict> {
  const { server } = stream;
  const { state } = server;
  const over = () => captive.status !== undefined || stopSignal.caught !== undefined || state.ended;
  await server.until(() => over() || state.failure !== undefined);
  // The stream is lost: the command sees the errors, and most end by themselves.
  if (!over()) await server.until(over, ERROR_GRACE);
  if (stopSignal.caught !== undefined) return stream.interrupted();
  const { status } = captive;
  if (status === undefined) return stream.conclude("command");
  if (status !== 0) {
    // The command may have failed because of what the stream thread is about to report.
    await server.sync();
    const { emitted } = server.counters;
    const command = { direction, image, connected: state.connected, emitted };
    return { status, why: commandFailure(state, status, command) };
  }
  await drainCaptive({
    server,
    survivors: captive.survivors,
    over: () => stopSignal.caught !== undefined || state.ended || isLost(state),
  });
  return stopSignal.caught === undefined ? stream.conclude("command") : stream.interrupted();
}

/** True when the stream is truncated, whoever may have something to say yet. */
function isLost({ failure, refused, dropped }: StreamState): boolean {
  return failure !== undefined || refused !== undefined || dropped;
}

/** Ends the command and all that it has started: asks, then kills. */
async function endFamily(tree: ProcessTree, signal: NodeJS.Signals): Promise<void> {
  const deadline = performance.now() + KILL_GRACE;
  signalAll(tree.members(), signal);
  while (tree.members().length > 0 && performance.now() < deadline) await Bun.sleep(10);
  signalAll(tree.members(), "SIGKILL");
}
