/** The spool as an ordinary file of a program: its path, and whether somebody has it open. */
import { fstatSync, readlinkSync } from "node:fs";
import { O_RDONLY } from "../../ffi/constants.ts";
import { close, dup, isOpenNowhereElse, open, replace } from "../../ffi/fd.ts";
import { hasOpen, processes } from "../process/proc.ts";

/**
 * A file without a name can be opened by a descriptor of this process (proc_pid_fd(5)). That descriptor has to be
 * one that stays: under a number that is free again, a program would find whatever is opened next.
 */
export class SpoolPath implements Disposable {
  /** The file, for this process. */
  #file = -1;
  /** What the path leads to. */
  #door = -1;
  #measured = { length: 0n, room: 0 };
  /** A folder, which nobody can write to. */
  #wall = -1;

  /** @param spool the file's descriptor, which stays the caller's @throws SyscallError without free descriptors */
  open(spool: number): void {
    this.#wall = open("/", O_RDONLY);
    this.#file = dup(spool);
    this.#door = dup(spool);
  }

  /** Undefined before {@link open}. */
  get path(): string | undefined {
    return this.#door < 0 ? undefined : `/proc/${process.pid}/fd/${this.#door}`;
  }

  /** What the descriptors of processes that have it open are links to, in /proc. */
  get target(): string {
    return readlinkSync(`/proc/self/fd/${this.#file}`);
  }

  /** The file's length, and what it takes on the disk, in bytes; what it was before if that cannot be known. */
  measure(): { length: bigint; room: number } {
    try {
      const { size, blocks } = fstatSync(this.#file, { bigint: true });
      this.#measured = { length: size, room: Number(blocks) * 512 };
    } catch {
      // A disk that fails shows where the data is concerned.
    }
    return this.#measured;
  }

  /** From now on nobody can open the file by its path; who has it open keeps it. */
  shut(): void {
    replace(this.#door, this.#wall);
  }

  /**
   * The ids of other processes that have the file open, if only for reading, which is a path to it, too. "unseen" is
   * one that /proc does not show, such as another user's, or one that only has the file mapped.
   */
  users(): readonly number[] | "unseen" {
    const isAlone = isOpenNowhereElse(this.#file);
    if (isAlone === true) return [];
    const { target } = this;
    const found = processes().filter((pid) => pid !== process.pid && hasOpen(pid, target));
    return found.length === 0 && isAlone === false ? "unseen" : found;
  }

  /** Lets the file go; the path leads nowhere from now on. */
  release(): void {
    if (this.#file < 0) return;
    this.shut();
    close(this.#file);
    this.#file = -1;
  }

  [Symbol.dispose](): void {
    for (const fd of [this.#file, this.#door, this.#wall]) if (fd >= 0) close(fd);
    this.#file = this.#door = this.#wall = -1;
  }
}
