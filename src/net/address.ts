/** Where the server listens, and its NBD URI. */
import { isIPv6 } from "../../ffi/socket.ts";

/** The port that IANA has assigned to NBD. */
export const NBD_PORT = 10809;

/** The longest path of a Unix socket in bytes: `sun_path` less its NUL (unix(7)). */
export const MAX_SOCKET_PATH = 107;

export type Address =
  | { readonly kind: "unix"; readonly path: string }
  | {
      readonly kind: "tcp";
      readonly host: string;
      /** 0 for a port that the kernel chooses. */
      readonly port: number;
    };

/** How clients connect. */
export type Entrance =
  /** To a listening socket that the program makes. */
  | Address
  /** To a listening socket that the program was started with. */
  | { readonly kind: "activated"; readonly fd: number }
  /** One client is connected to standard input and output. */
  | { readonly kind: "single" };

/**
 * The URI for an export at `address` (NetworkBlockDevice/nbd, doc/uri.md).
 *
 * @param certificates for a server that requires TLS: the folder with the certificates of local clients
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

/** Keeps slashes, which a query allows and which are easier to read. */
function inQuery(path: string): string {
  return encodeURIComponent(path).replaceAll("%2F", "/");
}
