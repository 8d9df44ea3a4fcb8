/** Where the bytes of a stream come from, whoever wrote them first. */
import type { Found } from "./requests.ts";
import { require } from "./require.ts";

/** No byte has come out that nobody sent for its place; zeroes are what is left out. */
export function expectOrigin(output: Buffer, size: number, writes: readonly Found[]): void {
  require(output.length <= size, `${output.length} bytes came out of a stream of ${size}`);
  const known = new Uint8Array(output.length);
  for (const { offset, payload } of writes) {
    const end = Math.min(output.length, offset + payload.length);
    for (let at = offset; at < end; at++) if (output[at] === payload[at - offset]) known[at] = 1;
  }
  const strange = output.findIndex((byte, at) => byte !== 0 && known[at] === 0);
  require(strange < 0, `nobody wrote byte ${strange}`);
}
