/** The checksum of a stream that is read. */
import type { ChecksumAlgorithm } from "../../endpoint/checksum.ts";
import { min, type Offset, subtract } from "../../protocol/offset.ts";

const zeroes = new Uint8Array(1 << 20);

export class Digest {
  readonly #hash: Bun.CryptoHasher;

  constructor(algorithm: ChecksumAlgorithm) {
    this.#hash = new Bun.CryptoHasher(algorithm);
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  /** @param length how many */
  updateZeroes(length: Offset): void {
    for (let left = length; left > 0;) {
      const now = Number(min(left, zeroes.length));
      this.#hash.update(zeroes.subarray(0, now));
      left = subtract(left, now);
    }
  }

  /** In hex; may be called once. */
  hex(): string {
    return this.#hash.digest("hex");
  }
}
