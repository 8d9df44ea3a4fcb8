/** The program as a user starts it. */
import type { Subprocess } from "bun";
import { join } from "node:path";
import { builtProgram } from "./built.ts";

/** The top folder of the project. */
export const ROOT = join(import.meta.dir, "../..");

/** How to start the program from source. */
export const SOURCE = [process.execPath, join(ROOT, "src/main.ts")];

/**
 * How to start the program: a binary of the sources as they are, or the words of an environment variable:
 *
 *     NBD_STREAMING_TEST_PROGRAM="bun $PWD/src/main.ts" bun test test/e2e
 */
export const PROGRAM = commandOf(process.env.NBD_STREAMING_TEST_PROGRAM) ?? [builtProgram(ROOT)];

function commandOf(line = ""): readonly string[] | undefined {
  const [program, ...words] = line.split(" ").filter((word) => word !== "");
  // Some tests start it where PATH is another one.
  return program === undefined ? undefined : [Bun.which(program) ?? program, ...words];
}

/** Milliseconds after which a wait fails: far more than anything here takes, however busy the machine is. */
export const WAIT_LIMIT = 60_000;

/** How a process ended. */
export interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process under test; `using` kills what is left of it. */
export interface Running extends AsyncDisposable {
  readonly process: Subprocess<"ignore" | Blob, "pipe", "pipe">;
  /** What it has written to standard error so far. */
  readonly stderr: string;
  /** Resolves when standard error matches. */
  saying(pattern: RegExp): Promise<void>;
  /** Waits for the end. */
  ended(): Promise<Ended>;
}

export interface StartOptions {
  readonly cwd?: string;
  readonly env?: Record<string, string | undefined>;
  /** What it reads on standard input. */
  readonly stdin?: Blob;
  /** Descriptors of ours that it gets as its own from 3 on. */
  readonly passed?: number | readonly number[] | undefined;
  /** Makes a process group of it, all of which `using` kills: for a shell with its commands. */
  readonly group?: boolean;
}

/** Starts any command. */
export function start(cmd: readonly string[], options: StartOptions = {}): Running {
  const child = Bun.spawn({
    cmd: [...cmd],
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, ...options.env },
    stdio: [options.stdin ?? "ignore", "pipe", "pipe", ...[options.passed ?? []].flat()],
    detached: options.group === true,
  });
  let stderr = "";
  const heard = new Set<() => void>();
  const listening = (async () => {
    for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream() as never)) {
      stderr += chunk as unknown as string;
      for (const look of [...heard]) look();
    }
  })();
  const stdout = new Response(child.stdout).text();
  const finished = (async (): Promise<Ended> => {
    const status = await child.exited;
    await listening;
    return { status, stdout: await stdout, stderr };
  })();
  return {
    process: child,
    get stderr() {
      return stderr;
    },
    saying: (pattern) =>
      bounded(
        new Promise<void>((resolve) => {
          const look = () => {
            if (!pattern.test(stderr)) return;
            heard.delete(look);
            resolve();
          };
          heard.add(look);
          look();
        }),
        `stderr to match ${pattern}`,
        () => stderr,
      ),
    ended: () => bounded(finished, "the process to end", () => stderr),
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        if (options.group === true) process.kill(-child.pid, "SIGKILL");
        else child.kill("SIGKILL");
      }
      await child.exited;
    },
  };
}

/** Starts the program. */
export function startProgram(args: readonly string[], options: StartOptions = {}): Running {
  return start([...PROGRAM, ...args], options);
}

/** Runs the program to its end. */
export async function runProgram(
  args: readonly string[],
  options: StartOptions = {},
): Promise<Ended> {
  await using running = startProgram(args, options);
  return await running.ended();
}

/** Asks how far the program is, by SIGUSR1, until the answer is as it should be. */
export async function answering(program: Running, pattern: RegExp): Promise<void> {
  const timer = setInterval(() => program.process.kill("SIGUSR1"), 100);
  try {
    await program.saying(pattern);
  } finally {
    clearInterval(timer);
  }
}

/** Runs any command to its end, which must be a good one. @returns its standard output */
export async function command(cmd: readonly string[], options: StartOptions = {}): Promise<string> {
  await using running = start(cmd, options);
  const { status, stdout, stderr } = await running.ended();
  if (status !== 0) throw new Error(`${cmd.join(" ")} failed with ${status}: ${stderr}`);
  return stdout;
}

/** Waits for a promise. @throws Error after WAIT_LIMIT */
export async function bounded<T>(
  promise: Promise<T>,
  what: string,
  context = () => "",
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`waited in vain for ${what}; ${context()}`)),
      WAIT_LIMIT,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until a condition holds. @throws Error after WAIT_LIMIT */
export async function eventually(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + WAIT_LIMIT;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await Bun.sleep(10);
  }
}
