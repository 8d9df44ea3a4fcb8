/** Sockets as bare descriptors, to be passed on: what the runtime does not give. */
import { dlopen } from "bun:ffi";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_STREAM } from "../../ffi/constants.ts";
import { close } from "../../ffi/fd.ts";
import { LIBC_NAMES } from "../../ffi/libc.ts";
import { Memory } from "../../ffi/memory.ts";
import { internetAddress, recv } from "../../ffi/socket.ts";
import { eventually } from "./program.ts";

const SYMBOLS = {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  accept: { args: ["i32", "ptr", "ptr"], returns: "i32" },
} as const;

function load() {
  for (const name of LIBC_NAMES) {
    try {
      return dlopen(name, SYMBOLS).symbols;
    } catch {
      // The next name may be the one.
    }
  }
  throw new Error("no C library");
}

const libc = load();

/** The loopback, at a port of the kernel's choice. */
export const ANY_PORT = internetAddress(Buffer.from([127, 0, 0, 1]), 0);

/** A descriptor that `using` closes, unless it was closed before. */
export class Owned implements Disposable {
  #open = true;

  constructor(readonly fd: number) {
    if (fd < 0) throw new Error("no descriptor");
  }

  close(): void {
    if (this.#open) close(this.fd);
    this.#open = false;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** @param address a `struct sockaddr` */
function bound(type: number, address: Uint8Array): Owned {
  const { view } = new Memory(Buffer.from(address));
  const socket = new Owned(libc.socket(view.getUint16(0, true), type | SOCK_CLOEXEC, 0));
  if (libc.bind(socket.fd, Buffer.from(address), address.length) === 0) return socket;
  socket.close();
  throw new Error("cannot bind");
}

/** A listening socket that blocks, as systemd and libnbd make them. */
export function listening(address: Uint8Array, backlog = 16): Owned {
  const socket = bound(SOCK_STREAM, address);
  libc.listen(socket.fd, backlog);
  return socket;
}

/** A socket that is bound, and nothing more. */
export function unheard(address: Uint8Array): Owned {
  return bound(SOCK_STREAM, address);
}

/** The next connection, which blocks; the client must have connected. */
export function accepted({ fd }: Owned): Owned {
  return new Owned(libc.accept(fd, null, null));
}

/** Receives datagrams. */
export class Mailbox extends Owned {
  readonly #memory = new Memory(4096);
  readonly #letters: string[] = [];

  constructor(address: Uint8Array) {
    super(bound(SOCK_DGRAM, address).fd);
    if (address[0] !== AF_UNIX) throw new Error("datagrams come by Unix sockets");
  }

  /** All that has come so far. */
  get letters(): readonly string[] {
    const memory = this.#memory;
    for (;;) {
      const n = recv(this.fd, memory.at(0), memory.length);
      if (n < 0) return this.#letters;
      this.#letters.push(Buffer.from(memory.bytes.slice(0, n)).toString());
    }
  }

  /** Waits until so many have come. */
  async count(number: number): Promise<readonly string[]> {
    await eventually(() => this.letters.length >= number, `${number} datagrams`);
    return this.letters;
  }
}
