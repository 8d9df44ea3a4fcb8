/** Terminals: ioctl_tty(2). */
import { TIOCGPGRP, TIOCGWINSZ } from "./constants.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

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

const group = new Memory(4);

/**
 * True when this process is in the foreground of the terminal behind a descriptor (TIOCGPGRP), which
 * then is its controlling terminal.
 */
export function isInForeground(fd: number): boolean {
  if (libc.ioctl(fd, TIOCGPGRP, group.at(0)) < 0) return false;
  return group.view.getInt32(0, true) === libc.getpgrp();
}
