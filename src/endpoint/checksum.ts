/** The checksum of a stream. */

/** The algorithms' names in Bun and OpenSSL. */
export const CHECKSUM_ALGORITHMS = ["sha256", "sha512", "md5", "blake2b512"] as const;
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number];

const zeroes = new Uint8Array(1 << 20);

export class Digest {
  readonly #hash: Bun.CryptoHasher;

  constructor(algorithm: ChecksumAlgorithm) {
    this.#hash = new Bun.CryptoHasher(algorithm);
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  /** @param length bytes */
  updateZeroes(length: number): void {
    for (let left = length; left > 0; left -= zeroes.length) {
      this.#hash.update(zeroes.subarray(0, Math.min(left, zeroes.length)));
    }
  }

  /** The checksum in hex; may be called once. */
  hex(): string {
    return this.#hash.digest("hex");
  }
}
