/** `run`: a private server, the command that is its client, and how both ended. */
import { cleaningUp } from "../clean-up.ts";
import { messageOf } from "../errors.ts";
import { signalAll } from "../process/descendants.ts";
import { Family } from "../process/family.ts";
import { askingToEnd, signalStatus } from "../process/signals.ts";
import type { Address } from "../server/address.ts";
import { commandFailure, type Facts } from "../server/facts.ts";
import { host, type Hosted, type HostOptions, type Outcome } from "../server/host.ts";
import type { Verdict } from "../server/summary.ts";
import { captiveVariables, notExecutable, type Variables } from "./command.ts";
import { seeOff, Survivors } from "./left-behind.ts";
import { PrivateFolder } from "./private-folder.ts";
import { remedyFor } from "./remedy.ts";

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

/** The command while it runs; the service's conditions are looked at again when it has ended. */
export interface Captive {
  /** Its exit status, 128 plus the number for a signal; undefined while it runs. */
  readonly status: number | undefined;
  /** Those of its processes that live when it has ended. */
  readonly survivors: Survivors;
}

/** How a command is seen through to its end. */
export type Attend = (captive: Captive, hosted: Hosted, options: RunOptions) => Promise<Verdict>;

/**
 * Runs the command with the server as its disk. The status of the outcome is 0 when the command has
 * succeeded and the stream is complete; the command's own when it has failed.
 *
 * @throws UserError when something cannot be started
 */
export function run(options: RunOptions): Promise<Outcome> {
  return runCaptive(options, accompany);
}

/**
 * Runs the command with the server as its disk, and leaves the verdict to `attend`.
 *
 * @throws UserError when something cannot be started
 */
export async function runCaptive(options: RunOptions, attend: Attend): Promise<Outcome> {
  const folder = options.address === undefined ? new PrivateFolder() : undefined;
  return await cleaningUp(
    () => {
      const entrance = options.address ?? { kind: "unix", path: (folder as PrivateFolder).socket };
      return host({ ...options, entrance }, (hosted) => {
        const address = hosted.service.address ?? entrance;
        return withCommand(options, address, hosted, attend);
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
  hosted: Hosted,
  attend: Attend,
): Promise<Verdict> {
  const { interruption, exportName = "", security } = options;
  const family = spawn(options, captiveVariables(address, exportName, security));
  let verdict: Verdict | undefined;
  return await cleaningUp(
    async () => (verdict = await attend(follow(family, hosted), hosted, options)),
    async () => {
      if (verdict !== undefined && verdict.why === undefined) return;
      // In this order: the command is given time, in which whoever takes the stream must not go on.
      const cancelled = hosted.cancel();
      await endFamily(family, askingToEnd(interruption.caught ?? "SIGTERM"));
      await cancelled;
    },
    () => family.release(),
  );
}

function spawn(options: RunOptions, variables: Variables): Family {
  const { target, direction, outputTaken = false } = options;
  const cmd = options.command(variables);
  // Where standard output or input is the stream, the command's own would get in between.
  const taken = target.kind === "descriptor" ? target.fd : undefined;
  const stdin = direction === "read" && taken === 0 ? "null" : 0;
  const stdout = outputTaken || (direction === "write" && taken === 1) ? 2 : 1;
  try {
    return new Family(MARK, {
      cmd,
      env: { ...process.env, ...variables },
      stdio: [stdin, stdout, 2],
    });
  } catch (error) {
    const missing = (error as { code?: string }).code === "ENOENT";
    throw notExecutable(cmd[0] ?? "", missing ? undefined : messageOf(error));
  }
}

function follow(family: Family, { service }: Hosted): Captive {
  const child = family.leader;
  const captive: { status: number | undefined; readonly survivors: Survivors } = {
    status: undefined,
    survivors: new Survivors(family),
  };
  void child.exited.then(() => {
    const { signalCode, exitCode } = child;
    captive.status = signalCode === null ? (exitCode ?? 0) : signalStatus(signalCode);
    service.poke();
  });
  return captive;
}

async function accompany(
  captive: Captive,
  hosted: Hosted,
  { interruption, direction, image }: RunOptions,
): Promise<Verdict> {
  const { service } = hosted;
  const { facts } = service;
  const over = () =>
    captive.status !== undefined || interruption.caught !== undefined || facts.ended;
  await service.until(() => over() || facts.failure !== undefined);
  // The stream is lost: the command sees the errors, and most end by themselves.
  if (!over()) await service.until(over, ERROR_GRACE);
  if (interruption.caught !== undefined) return hosted.interrupted();
  const { status } = captive;
  if (status === undefined) return hosted.conclude("command");
  if (status !== 0) {
    // The command may have failed because of what the stream thread is about to report.
    await service.heardAll();
    const { emitted } = service.counters;
    const remedy = remedyFor({ direction, image, connected: facts.connected, emitted });
    const failed = `the command failed with the stream at byte ${emitted}`;
    return { status, why: commandFailure(facts, failed, remedy) };
  }
  await seeOff({
    service,
    survivors: captive.survivors,
    over: () => interruption.caught !== undefined || facts.ended || isLost(facts),
  });
  return interruption.caught === undefined ? hosted.conclude("command") : hosted.interrupted();
}

/** True when the stream is truncated, whoever may have something to say yet. */
function isLost({ failure, refused, dropped }: Facts): boolean {
  return failure !== undefined || refused !== undefined || dropped;
}

/** Ends the command and all that it has started: asks, then kills. */
async function endFamily(family: Family, signal: NodeJS.Signals): Promise<void> {
  const deadline = performance.now() + KILL_GRACE;
  signalAll(family.members(), signal);
  while (family.members().length > 0 && performance.now() < deadline) await Bun.sleep(10);
  signalAll(family.members(), "SIGKILL");
}
