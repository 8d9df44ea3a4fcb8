/** Kills a command when this program is killed (SIGKILL, a crash) before the end of its input is decided. */
import { SyscallError } from "../../ffi/errno.ts";
import { close, write } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { pipe } from "../../ffi/pipe.ts";
import { Child } from "./child.ts";

/**
 * The watchdog's standard output is a writing end of the command's pipe, so that the command cannot see
 * end of file while the watchdog lives. It reads the process group to kill, and then {@link DONE}. End
 * of file instead means that this program is gone. SIGSTOP comes first, as in {@link ProcessTree.kill}.
 */
const SCRIPT = `trap '' HUP INT QUIT TERM
cd /
read -r group || exit
read -r word && exit
kill -s STOP -- "-$group"
kill -s KILL -- "-$group"`;

/**
 * Sends its process group to the watchdog before it becomes the command, so that the command never
 * reads while the watchdog does not know which group to kill. The watchdog of a stream without a byte
 * may have been released by then: that must not end the command (SIGPIPE).
 */
const LAUNCHER = `trap '' PIPE; echo $$ >&3 2>&-; trap - PIPE; exec 3>&- /bin/sh -c "$1"`;

/** The line that tells the watchdog to end without killing. */
const DONE = new Memory(Buffer.from("done\n"));

/** The prefix of the environment variables by which a {@link ProcessTree} finds its processes. */
const MARKS = "NBD_STREAMING_";

/**
 * A process that kills a command's process group when this process has gone without {@link release}. It
 * is in a session of its own, where no terminal's signal reaches it, and inherits no descriptors, so
 * that it holds nothing open.
 */
export class Watchdog {
  readonly #child: Child;
  /** The pipe for the process group and {@link DONE}. The kernel closes it when this process is gone. */
  readonly #control: number;
  #released = false;

  /**
   * Must be started before the command.
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
   * How to start the shell command to be watched, which must lead a process group.
   *
   * @param stdio its standard descriptors
   */
  watch(
    command: string,
    stdio: readonly [number, number, number],
  ): { cmd: readonly string[]; stdio: readonly number[] } {
    const cmd = ["/bin/sh", "-c", LAUNCHER, "/bin/sh", command];
    return { cmd, stdio: [...stdio, this.#control] };
  }

  /**
   * Ends the watchdog, which closes its end of the pipe. Both by {@link DONE} and by a signal: if one
   * alone failed, the command would wait for ever for the end of its input.
   */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    try {
      write(this.#control, DONE.at(0), DONE.length);
    } catch (error) {
      // The watchdog is gone already.
      if (!(error instanceof SyscallError)) throw error;
    }
    this.#child.kill("SIGKILL");
    this.#child.release();
    close(this.#control);
  }
}

/** The watchdog's environment: only the marks by which an outer command finds its processes. */
function marks(): Record<string, string | undefined> {
  const names = Object.keys(process.env).filter((name) => name.startsWith(MARKS));
  return Object.fromEntries(names.map((name) => [name, process.env[name]]));
}
