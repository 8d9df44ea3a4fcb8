/** The command lines of the servers, which run a client. */
import { join } from "node:path";
import type { Row } from "../rows/row.ts";
import { type Places, timed } from "../run/transfer.ts";
import type { Peer } from "./peer.ts";

export const MAIN = join(import.meta.dir, "../../src/main.ts");

export interface Serving {
  row: Row;
  /** The size of the disk, in bytes. */
  bytes: number;
  client: string;
  /** What starts ours. */
  program: string[];
  /** The folder of the certificates, if the row wants TLS. */
  certificates: string | undefined;
}

/**
 * @param target what `pipe=` or `read=` is
 * @param args more parameters and options
 */
export function ours(
  { row, bytes, client, program, certificates }: Serving,
  { pidfile }: Places,
  target: string,
  args: readonly string[],
): string[] {
  const listen = [...(row.tcp === true ? ["-p", "0"] : []), ...tls(certificates)];
  const size = bytes + (row.parameter === "pipe" ? (row.room ?? 0) : 0);
  return [
    ...[...program, "run", `${row.parameter}=${target}`, `size=${size}`],
    ...[...args, ...listen, "-P", pidfile, "--", timed(client, "CLIENT")],
  ];
}

export function nbdkit(serving: Serving, places: Places, peer: Peer): string[] {
  const { row, bytes } = serving;
  const stream = `${row.parameter}=${places.stream}`;
  return captive(peer, serving, places, [peer.plugin, stream, `size=${bytes}`]);
}

/**
 * A server that throws away what it gets and gives out zeroes: what the client takes alone. One
 * thread is faster at that than several, and clients would not copy what is said to be a hole.
 */
export function nothing(serving: Serving, places: Places, peer: Peer): string[] {
  const plugin = join(peer.plugins, "nbdkit-null-plugin.so");
  const noHoles = `--filter=${join(peer.filters, "nbdkit-noextents-filter.so")}`;
  const filters = serving.row.parameter === "read" ? [noHoles] : [];
  return captive(peer, serving, places, [
    ...["--threads=1", ...filters, plugin, `size=${serving.bytes}`],
  ]);
}

function captive(
  peer: Peer,
  { row, client, certificates }: Serving,
  { pidfile }: Places,
  plugin: string[],
): string[] {
  const listen = row.tcp === true ? ["-i", "127.0.0.1", "-p", String(freePort())] : ["-U", "-"];
  const run = ["--run", timed(client, "CLIENT")];
  return [peer.nbdkit, "-f", ...listen, ...tls(certificates), "-P", pidfile, ...plugin, ...run];
}

/** Both servers have the same options for it. */
function tls(certificates: string | undefined): string[] {
  return certificates === undefined ? [] : ["--tls=require", `--tls-certificates=${certificates}`];
}

/** nbdkit 1.24 cannot choose a port by itself. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
