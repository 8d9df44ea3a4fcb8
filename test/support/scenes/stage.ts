/**
 * A scene is one run of a block of a document, and a stage is where it is run: a folder of its own that holds
 * what the text assumes.
 */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copyCheckout } from "../checkout.ts";
import { binFolder, type Block } from "../documented.ts";
import type { Masters } from "./masters.ts";
import { command, type Ended, type Running, start } from "../program.ts";
import { tempFolder } from "../temp.ts";

/** One run of a block. A block may have several: when all is well, and when something fails. */
export interface Scene {
  /** The document, from the top folder of the project. */
  readonly document: string;
  /** What the block contains, and no other of the document does. */
  readonly block: string;
  /** What happens: a sentence in the present tense. */
  readonly title: string;
  /** Programs without which it is skipped. */
  readonly needs?: readonly string[];
  /** The only programs of this machine that are there, as if it had no others. Default: all. */
  readonly only?: readonly string[];
  /** Scripts of sh(1) in front of all others in PATH, by their names. */
  readonly commands?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  /** True if it is run in a checkout of the project. */
  readonly checkout?: boolean;
  /** Makes what the text assumes. */
  readonly before?: (stage: Stage) => Promise<unknown> | unknown;
  /** What cannot be run as it stands, and by what it is replaced. Each has to be there. */
  readonly replaced?: (stage: Stage) => readonly (readonly [string, string])[];
  /** What the same shell is asked after the block. */
  readonly then?: string;
  /** What others do while it runs. */
  readonly during?: (stage: Stage, running: Running) => Promise<unknown>;
  /** The block's exit status. Default: 0. */
  readonly status?: number;
  /** What must be so afterwards. */
  readonly after?: (stage: Stage, ended: Ended) => Promise<unknown> | unknown;
}

/** Where a scene is played; `using` ends what is left and removes all. */
export class Stage implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #folder = this.#stack.use(tempFolder());
  /** The working directory. */
  readonly cwd = this.#folder.file("here");
  /** TMPDIR. */
  readonly temporary = this.#folder.file("tmp");
  readonly #bin = this.#folder.file("bin");
  readonly #env: Record<string, string>;

  constructor(
    readonly masters: Masters,
    scene: Scene,
  ) {
    if (scene.checkout === true) copyCheckout(this.cwd);
    else mkdirSync(this.cwd);
    for (const path of [this.#folder.file("home"), this.temporary]) mkdirSync(path);
    binFolder(this.#bin, scene.commands);
    for (const tool of scene.only ?? []) symlinkSync(found(tool), join(this.#bin, tool));
    this.#env = {
      HOME: this.#folder.file("home"),
      TMPDIR: this.temporary,
      PATH: scene.only === undefined ? `${this.#bin}:${process.env.PATH}` : this.#bin,
      ...scene.env,
    };
  }

  /** A file in the working directory. */
  file(name: string): string {
    return join(this.cwd, name);
  }

  /** Keeps a resource until the scene is over. */
  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    return this.#stack.use(resource);
  }

  /** Starts a command as the block would: in the same folder, with the same PATH. */
  start(cmd: readonly string[]): Running {
    const running = this.use(start(cmd, { cwd: this.cwd, env: this.#env, group: true }));
    this.#stack.defer(() => endGroup(running.process.pid));
    return running;
  }

  /** Runs a command line of bash(1), which must succeed. @returns its standard output */
  shell(line: string): Promise<string> {
    return command(["bash", "-c", line], { cwd: this.cwd, env: this.#env });
  }

  /** Starts the text of a block by its shell, which stops at the first command that fails. */
  perform(text: string, language: string): Running {
    const script = this.#folder.file("block");
    writeFileSync(script, text);
    return this.start([language === "sh" ? "bash" : language, STRICT[language] ?? "-e", script]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** Where a program is. @throws Error when it is nowhere */
function found(tool: string): string {
  const path = Bun.which(tool);
  if (path === null) throw new Error(`there is no ${tool}`);
  return path;
}

/** fish cannot be told to stop. */
const STRICT: Readonly<Record<string, string>> = { fish: "--no-config" };

/** Ends what a shell has left behind, such as a reader of a FIFO that nobody has opened. */
function endGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** The text of a block with what is replaced in it. @throws Error where there is nothing to replace */
export function adapted(block: Block, replaced: readonly (readonly [string, string])[]): string {
  let { text } = block;
  for (const [from, to] of replaced) {
    if (!text.includes(from)) throw new Error(`there is no ${from} to replace in: ${text}`);
    text = text.replaceAll(from, to);
  }
  return text;
}
