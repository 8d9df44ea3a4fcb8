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

/** The URI for an export at `address` (NetworkBlockDevice/nbd, doc/uri.md). */
export function nbdUri(address: Address, exportName: string): string {
  const name = encodeURIComponent(exportName);
  if (address.kind === "unix") {
    // A slash in the query may stay as it is, and is easier to read.
    const path = encodeURIComponent(address.path).replaceAll("%2F", "/");
    return `nbd+unix:///${name}?socket=${path}`;
  }
  const host = isIPv6(address.host) ? `[${address.host}]` : address.host;
  return `nbd://${host}:${address.port}/${name}`;
}
