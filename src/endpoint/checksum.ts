/** The checksums that can be asked for, and their computation. */

/** Names as Bun and OpenSSL have them. */
export const CHECKSUM_ALGORITHMS = ["sha256", "sha512", "md5", "blake2b512"] as const;
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number];

const zeroes = new Uint8Array(1 << 20);

/** The checksum of a stream, in either direction. */
export class Digest {
  readonly #hash: Bun.CryptoHasher;

  constructor(algorithm: ChecksumAlgorithm) {
    this.#hash = new Bun.CryptoHasher(algorithm);
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  /** @param length how many */
  updateZeroes(length: number): void {
    for (let left = length; left > 0; left -= zeroes.length) {
      this.#hash.update(zeroes.subarray(0, Math.min(left, zeroes.length)));
    }
  }

  /** In hex; may be called once. */
  hex(): string {
    return this.#hash.digest("hex");
  }
}
