/** The certificates of `--tls-certificates`, under the file names of nbdkit and qemu. */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { TLSOptions } from "bun";
import { messageOf, UserError } from "../errors.ts";
import type { TlsPolicy } from "../handshake/haggling.ts";
import { NoticeError } from "../messages/notice-error.ts";

/** How connections are secured. */
export type Security =
  | { readonly policy: "off" }
  | {
      readonly policy: Exclude<TlsPolicy, "off">;
      /** The folder of the certificates, which may also have those of local clients. */
      readonly folder: string;
      readonly options: TLSOptions;
    };

/** The absolute path of the certificates' folder if the server requires TLS; undefined if not. */
export function requiredCertificates(security: Security): string | undefined {
  return security.policy === "require" ? resolve(security.folder) : undefined;
}

const CA = "ca-cert.pem";
const CERTIFICATE = "server-cert.pem";
const KEY = "server-key.pem";

/**
 * Reads `server-cert.pem`, `server-key.pem` and, for the certificates of clients, `ca-cert.pem`.
 *
 * @param verifyPeer serves only clients with a certificate of that authority
 * @throws UserError ERR_TLS when a file is missing or they do not belong together
 */
export function loadCertificates(folder: string, verifyPeer: boolean): TLSOptions {
  const cert = read(folder, CERTIFICATE);
  const key = read(folder, KEY);
  const ca = verifyPeer || existsSync(join(folder, CA)) ? read(folder, CA) : undefined;
  const identity = ca === undefined ? { cert, key } : { cert, key, ca };
  try {
    // Loaded only if it is needed, because loading takes time.
    process.getBuiltinModule("node:tls").createSecureContext(identity);
  } catch (error) {
    throw new UserError(
      "ERR_TLS",
      `the certificates in ${folder} cannot be used (${messageOf(error)}): ` +
        `see whether ${CERTIFICATE} and ${KEY} belong together`,
    );
  }
  return { ...identity, requestCert: verifyPeer, rejectUnauthorized: verifyPeer };
}

function read(folder: string, name: string): string {
  const path = join(folder, name);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const why = messageOf(error);
    throw new NoticeError("ERR_TLS", { code: "CERTIFICATE_UNREADABLE", path, why });
  }
  // An empty file would count as none: without a CA, the system's would be trusted.
  if (text.includes("-----BEGIN ")) return text;
  throw new UserError("ERR_TLS", `${path} cannot be used: it is not in PEM form`);
}
