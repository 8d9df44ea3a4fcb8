/** The exact size of another server's export, which qemu rounds up to whole sectors. */
import { NbdClient } from "./nbd-client.ts";

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
 * Asks a server for the size of its export, in bytes.
 *
 * @param stop aborted when there is no time to wait any more
 * @throws Error when it does not tell: it may want TLS
 */
export async function exportSize(address: ExportAddress, stop: AbortSignal): Promise<bigint> {
  const to =
    "unix" in address ? { path: address.unix } : { host: address.hostname, port: address.port };
  const client = await NbdClient.connect(to, {
    exportName: address.name,
    stop,
    server: "its server",
  });
  client.leave();
  return client.size;
}
