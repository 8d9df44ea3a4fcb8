/** The exact size of another server's export, which qemu rounds up to whole sectors. */
import type { Socket } from "bun";
import {
  IHAVEOPT,
  NBD_CMD_DISC,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_NO_ZEROES,
  NBD_OPT_EXPORT_NAME,
  NBDMAGIC,
} from "../protocol/constants.ts";
import { encodeRequest } from "../protocol/request.ts";

/** Milliseconds for the server to answer; qemu-img has just had its answer. */
const LIMIT = 10_000;

/** Where an export is. */
export type ExportAddress = (
  { readonly unix: string } | { readonly hostname: string; readonly port: number }
) & { readonly name: string };

/** Reads the address of an export as `qemu-img info` writes it; undefined for what is none. */
export function exportAddress(filename: string): ExportAddress | undefined {
  const [, path = "", unix] = /^nbd\+unix:\/\/(?:\/(.*))?\?socket=(.+)$/s.exec(filename) ?? [];
  if (unix !== undefined) return { unix, name: path };
  const [, host, port, name = ""] =
    /^nbd:\/\/([^/]+):([0-9]{1,5})(?:\/(.*))?$/s.exec(filename) ?? [];
  if (host === undefined) return undefined;
  return { hostname: host.replace(/^\[(.*)\]$/, "$1"), port: Number(port), name };
}

/**
 * Asks a server for the size of its export, in bytes, by the one option that every server has
 * (NBD_OPT_EXPORT_NAME, doc/proto.md), and leaves it alone.
 *
 * @param stop aborted when there is no time to wait any more
 * @throws Error when it does not tell: it may want TLS
 */
export async function exportSize(address: ExportAddress, stop: AbortSignal): Promise<bigint> {
  const { promise, resolve, reject } = Promise.withResolvers<bigint>();
  const conversation = new Conversation(address.name);
  const ended = () => reject(new Error("its server has closed the connection"));
  const handlers = {
    data(socket: Socket, chunk: Uint8Array) {
      try {
        const { answer, size } = conversation.hear(chunk);
        if (answer !== undefined) socket.write(answer);
        if (size !== undefined) resolve(size);
      } catch (error) {
        reject(error);
      }
    },
    error: (_: Socket, error: Error) => reject(error),
    close: ended,
    end: ended,
  };
  const connecting =
    "unix" in address
      ? Bun.connect({ unix: address.unix, socket: handlers })
      : Bun.connect({ hostname: address.hostname, port: address.port, socket: handlers });
  connecting.catch(reject);
  const limit = AbortSignal.any([stop, AbortSignal.timeout(LIMIT)]);
  const late = () => reject(new Error("its server does not answer"));
  if (limit.aborted) late();
  limit.addEventListener("abort", late, { once: true });
  try {
    return await promise;
  } finally {
    limit.removeEventListener("abort", late);
    // It may be there only later.
    void connecting.then(
      (socket) => socket.end(),
      () => {},
    );
  }
}

/** What a client says to what it hears, without any I/O. */
class Conversation {
  #heard = Buffer.alloc(0);
  #greeted = false;
  #zeroes = true;
  readonly #name: Buffer;

  constructor(name: string) {
    this.#name = Buffer.from(name);
  }

  /** @throws Error for what is no server of the newstyle negotiation */
  hear(chunk: Uint8Array): { answer?: Uint8Array; size?: bigint } {
    this.#heard = Buffer.concat([this.#heard, chunk]);
    if (!this.#greeted) return this.#heard.length < 18 ? {} : { answer: this.#greet() };
    // 124 zeroes follow, unless both sides can do without them.
    if (this.#heard.length < (this.#zeroes ? 10 + 124 : 10)) return {};
    const size = this.#heard.readBigUInt64BE(0);
    return { answer: encodeRequest(NBD_CMD_DISC, 0, 0, 0), size };
  }

  #greet(): Uint8Array {
    const heard = this.#heard;
    if (heard.readBigUInt64BE(0) !== NBDMAGIC || heard.readBigUInt64BE(8) !== IHAVEOPT) {
      throw new Error("its server does not negotiate as others do");
    }
    this.#zeroes = (heard.readUInt16BE(16) & NBD_FLAG_NO_ZEROES) === 0;
    this.#heard = heard.subarray(18);
    this.#greeted = true;
    const option = Buffer.alloc(4 + 16);
    const flags = NBD_FLAG_C_FIXED_NEWSTYLE | (this.#zeroes ? 0 : NBD_FLAG_C_NO_ZEROES);
    option.writeUInt32BE(flags, 0);
    option.writeBigUInt64BE(IHAVEOPT, 4);
    option.writeUInt32BE(NBD_OPT_EXPORT_NAME, 12);
    option.writeUInt32BE(this.#name.length, 16);
    return Buffer.concat([option, this.#name]);
  }
}
