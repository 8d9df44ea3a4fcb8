/** Where the server listens, and the URIs by which clients find it. */
import { isIPv6 } from "node:net";

/** The port that IANA has assigned to NBD. */
export const NBD_PORT = 10809;

/** The longest path of a Unix socket in bytes: `sun_path` less its NUL (unix(7)). */
export const MAX_SOCKET_PATH = 107;

export type Address =
  | { readonly kind: "unix"; readonly path: string }
  | {
      readonly kind: "tcp";
      readonly host: string;
      /** 0 lets the kernel choose. */
      readonly port: number;
    };

/** Where clients come from. */
export type Entrance =
  /** A listening socket of our own. */
  | Address
  /** A listening socket that the program was started with. */
  | { readonly kind: "activated"; readonly fd: number }
  /** One client, connected to standard input and output. */
  | { readonly kind: "single" };

/**
 * The URI for an export at `address` (NetworkBlockDevice/nbd, doc/uri.md).
 *
 * @param certificates for a server that wants TLS: where a client of this machine finds its own
 */
export function nbdUri(address: Address, exportName: string, certificates?: string): string {
  const name = encodeURIComponent(exportName);
  const scheme = certificates === undefined ? "nbd" : "nbds";
  const tls = certificates === undefined ? [] : [`tls-certificates=${inQuery(certificates)}`];
  if (address.kind === "unix") {
    const query = [`socket=${inQuery(address.path)}`, ...tls].join("&");
    return `${scheme}+unix:///${name}?${query}`;
  }
  const host = isIPv6(address.host) ? `[${address.host}]` : address.host;
  return [`${scheme}://${host}:${address.port}/${name}`, ...tls].join("?");
}

/** A slash may stay as it is, and is easier to read. */
function inQuery(path: string): string {
  return encodeURIComponent(path).replaceAll("%2F", "/");
}
