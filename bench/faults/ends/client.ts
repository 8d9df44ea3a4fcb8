/**
 * `bun client.ts PLAN`: an NBD client that writes or reads a disk from start to end, and waits or
 * leaves where the plan says. Its socket is that of the plan, or `$unixsocket`.
 */
import { existsSync, readFileSync } from "node:fs";
import { NBD_CMD_READ, NBD_CMD_WRITE } from "../../../src/protocol/constants.ts";
import { encodeRequest } from "../../../src/protocol/request.ts";
import { type ClientTurn, type Direction, PIECE, SIZE, type Stage } from "../case.ts";
import { Connection } from "./connection.ts";
import { planned, type Talk, tell } from "./end.ts";

export interface ClientPlan extends Talk {
  readonly direction: Direction;
  readonly socket?: string;
  /** What is written; a raw file. */
  readonly disk: string;
  readonly turn?: ClientTurn;
  /** What it exits with if nothing fails. */
  readonly status: number;
}

const HEADER_PART = 13;
const POLL_MS = 2;

const plan = planned<ClientPlan>();
const disk = readFileSync(plan.disk);
const hash = new Bun.CryptoHasher("sha256");
let bytes = 0;

const moved = () => ({ bytes, sha256: hash.copy().digest("hex") });

/** The header of the request at `at`, and its payload. */
function request(at: number): [header: Uint8Array, payload: Uint8Array] {
  const type = plan.direction === "write" ? NBD_CMD_WRITE : NBD_CMD_READ;
  const payload = plan.direction === "write" ? disk.subarray(at, at + PIECE) : new Uint8Array(0);
  return [encodeRequest(type, at, PIECE, at), payload];
}

/** How much of a request has gone out in a stage. What is read has no payload in it: all has. */
function sentIn(stage: Stage, [header, payload]: [Uint8Array, Uint8Array]): number {
  switch (stage) {
    case "between requests":
      return 0;
    case "in a header":
      return HEADER_PART;
    case "in a payload":
      return header.length + payload.length / 2;
  }
}

/** @returns the part of the request that has gone out before the turn; undefined after the end */
async function takeTurn(connection: Connection, turn: ClientTurn): Promise<number> {
  const parts = request(turn.at);
  const sent = turn.at === SIZE ? 0 : sentIn(turn.stage, parts);
  // Whoever stops takes no answer, either.
  connection.socket.pause();
  if (sent > 0) await connection.send(Buffer.concat(parts).subarray(0, sent));
  if (turn.deed === "leave") await connection.close();
  if (turn.deed === "finish") await connection.disconnect();
  tell(plan, { ...moved(), did: turn.deed });
  if (turn.deed !== "wait") process.exit(plan.status);
  while (!existsSync(plan.gate)) await Bun.sleep(POLL_MS);
  connection.socket.resume();
  return sent;
}

async function copy(): Promise<void> {
  tell(plan, { bytes, sha256: "" });
  const connection = await Connection.to(plan.socket ?? process.env.unixsocket ?? "");
  for (; bytes < SIZE; bytes += PIECE) {
    const sent = plan.turn?.at === bytes ? await takeTurn(connection, plan.turn) : 0;
    const parts = request(bytes);
    await connection.send(Buffer.concat(parts).subarray(sent));
    const data = await connection.reply(plan.direction === "read" ? PIECE : 0);
    hash.update(plan.direction === "read" ? data : parts[1]);
  }
  if (plan.turn?.at === SIZE) await takeTurn(connection, plan.turn);
  await connection.disconnect();
}

try {
  await copy();
  tell(plan, { ...moved(), end: "an ordinary end" });
  process.exit(plan.status);
} catch (error) {
  console.error(`client: ${error instanceof Error ? error.message : error}`);
  tell(plan, { ...moved(), end: "an error" });
  process.exit(1);
}
