/** Clients that begin TLS, byte by byte, inside and outside of it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { NBD_OPT_EXPORT_NAME, NBD_OPT_STARTTLS } from "../../src/protocol/constants.ts";
import { RawClient } from "./nbd-client.ts";
import { encodeOption } from "./wire.ts";
import { bounded } from "./program.ts";

/** Connects, and says all but the first word of TLS. @param before options without replies of data */
export async function beginTls(
  where: string | number,
  before: readonly Buffer[] = [],
): Promise<RawClient> {
  const client = await RawClient.connect(where);
  await client.receive(18);
  client.send(Buffer.from([0, 0, 0, 3]), ...before);
  await client.receive(20 * before.length);
  client.send(encodeOption(NBD_OPT_STARTTLS));
  const acknowledged = await client.receive(20);
  if (acknowledged.readUInt32BE(12) !== 1) throw new Error(acknowledged.toString("hex"));
  return client;
}

/** A client in the middle of options, inside TLS. */
export interface SecureClient extends AsyncDisposable {
  /** What is said inside TLS. */
  readonly inside: RawClient;
  /** What is said below it. */
  readonly below: RawClient;
}

/** Begins TLS. @param folder of `client-cert.pem` and `client-key.pem`; none without */
export async function secureClient(
  where: string | number,
  authority: string,
  folder?: string,
  before: readonly Buffer[] = [],
): Promise<SecureClient> {
  const below = await beginTls(where, before);
  below.socket.removeAllListeners("data");
  const file = (name: string) => readFileSync(join(folder ?? "", name), "utf8");
  const identity =
    folder === undefined ? {} : { cert: file("client-cert.pem"), key: file("client-key.pem") };
  const socket = connect({
    socket: below.socket,
    ca: authority,
    servername: "localhost",
    ...identity,
  });
  const inside = new RawClient(socket);
  await bounded(
    new Promise<void>((resolve, reject) => {
      socket.once("secureConnect", resolve);
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("closed before TLS had begun")));
    }),
    "TLS to begin",
  );
  return {
    inside,
    below,
    [Symbol.asyncDispose]() {
      socket.destroy();
      below.socket.destroy();
      return Promise.resolve();
    },
  };
}

/** Begins TLS, and the transmission phase inside it, in the shortest way. */
export async function secureTransmission(
  where: string | number,
  authority: string,
  folder?: string,
  before: readonly Buffer[] = [],
): Promise<SecureClient> {
  const client = await secureClient(where, authority, folder, before);
  client.inside.send(encodeOption(NBD_OPT_EXPORT_NAME));
  await client.inside.receive(10);
  return client;
}

/**
 * The message of what has to fail. Unlike `expect(…).rejects`, which has Bun turn its event loop
 * inside of itself, it lets all else go on that the test has under way.
 */
export async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("this should have failed");
}
