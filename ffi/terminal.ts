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

/** True for a terminal (isatty(3)). */
export function isTerminal(fd: number): boolean {
  return libc.isatty(fd) === 1;
}

/** The size of a terminal in characters. */
export interface WindowSize {
  readonly rows: number;
  readonly columns: number;
}

const winsize = new Memory(8);

/** The size of a terminal (TIOCGWINSZ); undefined for a descriptor that is no terminal. */
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

/** The foreground process group of the controlling terminal (TIOCGPGRP); undefined for another file. */
export function foregroundGroup(fd: number): number | undefined {
  if (libc.ioctl(fd, TIOCGPGRP, group.at(0)) < 0) return undefined;
  return group.view.getInt32(0, true);
}

/** The process group of this process. */
export function ownGroup(): number {
  return libc.getpgrp();
}

/** True when `fd` is the controlling terminal, with this process in the foreground. */
export function isInForeground(fd: number): boolean {
  return foregroundGroup(fd) === ownGroup();
}

/**
 * Puts a process group of this session into the foreground of its terminal (TIOCSPGRP), even from the
 * background.
 *
 * @throws SyscallError EPERM when there is no such group, EIO when the terminal is gone
 */
export function setForegroundGroup(fd: number, id: number): void {
  group.view.setInt32(0, id, true);
  fromBackground(() => libc.ioctl(fd, TIOCSPGRP, group.at(0)));
}

/** The settings of a terminal (struct termios of the kernel). */
export interface TerminalSettings {
  /** The bits ECHO and ICANON: whether typed characters are shown, and read line by line. */
  readonly mode: number;
  readonly memory: Memory;
}

/** The position of c_lflag, after c_iflag, c_oflag and c_cflag. */
const LFLAG = 12;

/** @returns undefined when the terminal is gone */
export function terminalSettings(fd: number): TerminalSettings | undefined {
  const memory = new Memory(64);
  if (libc.ioctl(fd, TCGETS, memory.at(0)) < 0) return undefined;
  return { mode: memory.view.getUint32(LFLAG, true) & (ECHO | ICANON), memory };
}

/** Changes the settings, even from the background. @throws SyscallError EIO when the terminal is gone */
export function setTerminal(fd: number, { memory }: TerminalSettings): void {
  fromBackground(() => libc.ioctl(fd, TCSETSW, memory.at(0)));
}

/** Blocks SIGTTOU, which would stop a background process and its group in these calls (ioctl_tty(2)). */
function fromBackground(call: () => number): void {
  withBlocked("SIGTTOU", () => checked("ioctl", call, "terminal"));
}
