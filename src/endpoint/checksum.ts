/** The checksums that can be asked for. */

/** Names as Bun and OpenSSL have them. */
export const CHECKSUM_ALGORITHMS = ["sha256", "sha512", "md5", "blake2b512"] as const;
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number];
