/** Terminals: ioctl_tty(2). */
import {
  ECHO,
  ICANON,
  O_NOCTTY,
  O_RDWR,
  TCGETS,
  TCSETSW,
  TIOCGPGRP,
  TIOCGWINSZ,
  TIOCSPGRP,
} from "./constants.ts";
import { checked } from "./errno.ts";
import { open } from "./fd.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";
import { withBlocked } from "./signal.ts";

/** How large a terminal is, in characters. */
export interface WindowSize {
  readonly rows: number;
  readonly columns: number;
}

const winsize = new Memory(8);

/** The size of the terminal behind a descriptor (TIOCGWINSZ); undefined where there is none. */
export function windowSize(fd: number): WindowSize | undefined {
  if (libc.ioctl(fd, TIOCGWINSZ, winsize.at(0)) < 0) return undefined;
  const { view } = winsize;
  return { rows: view.getUint16(0, true), columns: view.getUint16(2, true) };
}

/** Opens the controlling terminal of this process (tty(4)). @throws SyscallError ENXIO without one */
export function openTerminal(): number {
  return open("/dev/tty", O_RDWR | O_NOCTTY);
}

const group = new Memory(4);

/** The process group in the foreground of a terminal (TIOCGPGRP); undefined if it is not ours. */
export function foregroundGroup(fd: number): number | undefined {
  if (libc.ioctl(fd, TIOCGPGRP, group.at(0)) < 0) return undefined;
  return group.view.getInt32(0, true);
}

/** The process group of this process. */
export function ownGroup(): number {
  return libc.getpgrp();
}

/**
 * True when this process is in the foreground of the terminal behind a descriptor, which then is its
 * controlling terminal.
 */
export function isInForeground(fd: number): boolean {
  return foregroundGroup(fd) === ownGroup();
}

/**
 * Puts a process group of this session into the foreground of its terminal (TIOCSPGRP), from the
 * background, too.
 *
 * @throws SyscallError EPERM when there is no such group, EIO when the terminal is gone
 */
export function setForegroundGroup(fd: number, id: number): void {
  group.view.setInt32(0, id, true);
  fromBackground(() => libc.ioctl(fd, TIOCSPGRP, group.at(0)));
}

/** How a terminal is set (struct termios of the kernel). */
export interface TerminalSettings {
  /** ECHO and ICANON: whether it shows what is typed, and gives it line by line. */
  readonly mode: number;
  readonly memory: Memory;
}

/** Where c_lflag is, behind c_iflag, c_oflag and c_cflag. */
const LFLAG = 12;

/** @returns undefined when there is no terminal any more */
export function terminalSettings(fd: number): TerminalSettings | undefined {
  const memory = new Memory(64);
  if (libc.ioctl(fd, TCGETS, memory.at(0)) < 0) return undefined;
  return { mode: memory.view.getUint32(LFLAG, true) & (ECHO | ICANON), memory };
}

/** Sets a terminal, from the background, too. @throws SyscallError EIO when it is gone */
export function setTerminal(fd: number, { memory }: TerminalSettings): void {
  fromBackground(() => libc.ioctl(fd, TCSETSW, memory.at(0)));
}

/** Whoever does this from the background would be stopped by SIGTTOU, with all of its group. */
function fromBackground(call: () => number): void {
  withBlocked("SIGTTOU", () => checked("ioctl", call, "terminal"));
}
