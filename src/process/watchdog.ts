/** What becomes of a command whose input would end if this program were killed: SIGKILL, a crash. */
import { SyscallError } from "../../ffi/errno.ts";
import { close, write } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { pipe } from "../../ffi/pipe.ts";
import { Child } from "./child.ts";

/**
 * Its standard output is a writing end of the command's pipe, so that the command cannot see end of
 * file as long as it lives. It reads the process group that it is to kill, and then a word. End of file
 * in place of the word means that we are gone. SIGSTOP comes first, as in {@link Family.kill}.
 */
const SCRIPT = `trap '' HUP INT QUIT TERM
cd /
read -r group || exit
read -r word && exit
kill -s STOP -- "-$group"
kill -s KILL -- "-$group"`;

/**
 * Tells the watchdog its process group before it becomes the command, so that there is no moment in which
 * the command could read and nobody would know whom to kill.
 */
const GATE = 'echo $$ >&3; exec 3>&- /bin/sh -c "$1"';

/** What it reads before its end when all is well. */
const WORD = new Memory(Buffer.from("done\n"));

/** How the variables begin by which a {@link Family} is told. */
const MARKS = "NBD_STREAMING_";

/**
 * A process that outlives us for a moment: it kills a command's process group when this process is gone
 * without a word. It is in a session of its own, where no terminal's signal reaches it, and has none of
 * our descriptors, so that it keeps nobody waiting.
 */
export class Watchdog {
  readonly #child: Child;
  /** Where the group is told, and the word; that it is closed is what is waited for. */
  readonly #control: number;
  #released = false;

  /**
   * To be started before the command.
   *
   * @param guarded the writing end of the command's pipe
   * @throws SyscallError when it cannot be started
   */
  constructor(guarded: number) {
    const control = pipe();
    this.#control = control.write;
    try {
      this.#child = new Child({
        file: "/bin/sh",
        argv: ["/bin/sh", "-c", SCRIPT, "nbd-streaming: watchdog"],
        env: marks(),
        stdio: [control.read, guarded, "null"],
        place: "session",
      });
    } catch (error) {
      close(control.write);
      throw error;
    } finally {
      close(control.read);
    }
  }

  /**
   * The words that start a shell command which is to be watched: it has to lead a process group.
   *
   * @param stdio its standard descriptors
   */
  watch(
    command: string,
    stdio: readonly [number, number, number],
  ): { cmd: readonly string[]; stdio: readonly number[] } {
    return { cmd: ["/bin/sh", "-c", GATE, "/bin/sh", command], stdio: [...stdio, this.#control] };
  }

  /**
   * It is not needed any more, and does not hold the pipe any longer. By word and by signal: should one of
   * them fail, the command would wait for ever for the end of its input.
   */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    try {
      write(this.#control, WORD.at(0), WORD.length);
    } catch (error) {
      // It is gone already.
      if (!(error instanceof SyscallError)) throw error;
    }
    this.#child.kill("SIGKILL");
    this.#child.release();
    close(this.#control);
  }
}

/** It needs no environment. But if it belongs to another stream's command, with us, it is to be found as that. */
function marks(): Record<string, string | undefined> {
  const names = Object.keys(process.env).filter((name) => name.startsWith(MARKS));
  return Object.fromEntries(names.map((name) => [name, process.env[name]]));
}
