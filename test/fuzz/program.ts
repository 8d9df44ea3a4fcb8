/** Hostile clients of the real program, over real sockets. */
import { readFileSync } from "node:fs";
import { createConnection } from "node:net";
import { NBD_CMD_WRITE, NBD_REP_MAGIC } from "../../src/protocol/constants.ts";
import { eventually, type Running, start, startProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { flatten, mutate, split } from "./mutate.ts";
import { type Case, expectReplies } from "./negotiation.ts";
import { NAME, negotiation } from "./options.ts";
import { expectOrigin } from "./origin.ts";
import { predict, type Prediction } from "./prediction.ts";
import type { Random } from "./random.ts";
import { takeReply } from "./reply.ts";
import { type Found, requests, takeApart, type Way } from "./requests.ts";
import { require } from "./require.ts";

const SIZE = 300_000;

/** Far more than the program takes to answer a client that has said all, and to end, on a busy machine, too. */
const SOON = 60_000;

/** Clients that the program must outlive, unless one of them ends the stream. */
const CLIENTS = 20;

interface Said {
  readonly messages: number;
  readonly bytes: Buffer;
  readonly pieces: readonly Buffer[];
  readonly agreed: Prediction;
  /** What it says after negotiation. */
  readonly found: readonly Found[];
}

export function programCase(random: Random): Case {
  const way: Way = random.pick(["write", "read"]);
  const clients = Array.from({ length: CLIENTS }, () => say(way, random));
  return {
    messages: clients.reduce((sum, { messages }) => sum + messages, 0),
    pieces: () => [
      `serve ${way} size=${SIZE}`,
      ...clients.flatMap(({ pieces }, i) => [
        `client ${i}`,
        ...pieces.map((piece) => piece.toString("hex")),
      ]),
    ],
    run: () => serve(way, clients, random.chance(0.5)),
  };
}

/** One client: a negotiation, and what is to come after it, both tampered with or not. */
function say(way: Way, random: Random): Said {
  const opening = negotiation(random);
  const messages = random.chance(0.6) ? mutate(opening, random) : opening;
  // Most do not get far: the program ends with the first one that moves the stream and leaves.
  if (random.chance(0.15)) {
    const { extended } = predict(Buffer.concat(messages), [], "off");
    messages.push(...mutate(requests(way, SIZE, random, extended), random));
  }
  const bytes = flatten(messages, random);
  const agreed = predict(bytes, [], "off");
  const transmission =
    agreed.end === "transmission" ? bytes.subarray(agreed.used) : Buffer.alloc(0);
  const { found } = takeApart(transmission, agreed.extended);
  return { messages: messages.length, bytes, pieces: split(bytes, random), agreed, found };
}

async function serve(way: Way, clients: readonly Said[], tcp: boolean): Promise<void> {
  using folder = tempFolder();
  const [output, fifo, socket] = ["output", "fifo", "socket"].map((name) => folder.file(name));
  const target = `${way === "write" ? "pipe" : "read"}=${fifo}`;
  const where = tcp ? ["-p", "0"] : ["-U", socket as string];
  const words = ["serve", target, `size=${SIZE}`, "--no-pad", "-e", NAME, ...where];
  await using program = startProgram(words);
  const far = way === "write" ? 'exec cat "$0" > "$1"' : 'head -c "$2" /dev/zero > "$0"';
  await program.saying(/listening on/);
  await using other = start(["sh", "-c", far, fifo, output, SIZE].map(String));
  const port = Number(/nbd:\/\/127\.0\.0\.1:(\d+)/.exec(program.stderr)?.[1] ?? 0);
  const place = tcp ? { port, host: "127.0.0.1" } : { path: socket as string };
  for (const client of clients) {
    if (hasEnded(program)) break;
    const received = await visit(place, client);
    if (received !== undefined) expectAnswers(received, client);
  }
  program.process.kill("SIGTERM");
  await within(program.process.exited, "the program does not end");
  const { status, stderr } = await program.ended();
  require([0, 4, 143].includes(status), () => `status ${status}: ${stderr}`);
  require(!/^\s+at /m.test(stderr), () => `a fault: ${stderr}`);
  if (way === "read") return;
  // The reader of a stream that never began has nobody to open the FIFO for.
  if (!/complete|truncated: (?!ended by)/.test(stderr)) return;
  await within(other.process.exited, "the reader does not end");
  const writes = clients.flatMap(({ found }) => found.filter(({ type }) => type === NBD_CMD_WRITE));
  expectOrigin(readFileSync(output as string), SIZE, writes);
}

function hasEnded({ process }: Running): boolean {
  return process.exitCode !== null || process.signalCode !== null;
}

/** Says it all, and takes all that comes. @returns undefined when nobody was there any more */
async function visit(
  where: { path: string } | { port: number; host: string },
  { pieces }: Said,
): Promise<Buffer | undefined> {
  const received: Buffer[] = [];
  const socket = createConnection({ ...where, allowHalfOpen: true });
  let connected = false;
  let over = false;
  socket.on("connect", () => {
    connected = true;
    for (const piece of pieces) socket.write(piece);
    socket.end();
  });
  socket.on("data", (chunk: Buffer) => received.push(chunk));
  socket.on("error", () => {});
  for (const event of ["end", "close"]) socket.on(event, () => (over = true));
  try {
    await eventually(() => over, "the server to close");
  } finally {
    socket.destroy();
  }
  return connected ? Buffer.concat(received) : undefined;
}

/**
 * What has come is right as far as it goes: a client that is cut off while it still speaks may lose the
 * last words to a reset.
 */
function expectAnswers(received: Buffer, { agreed, found }: Said): void {
  if (received.length < 18) return;
  let at = 18;
  while (received.length - at >= 20 && received.readBigUInt64BE(at) === NBD_REP_MAGIC) {
    at += 20 + received.readUInt32BE(at + 16);
  }
  const hasAll = received.length >= at + agreed.exportNameReply;
  const end = at + (hasAll ? agreed.exportNameReply : 0);
  const said = received.subarray(18, end);
  expectReplies(said, { ...agreed, doubtful: agreed.replies.length, exportNameReply: end - at });
  const pending = found.filter(({ whole }) => whole);
  let place = end;
  const take = (length: number) => {
    if (received.length - place < length) return undefined;
    place += length;
    return received.subarray(place - length, place);
  };
  while (hasAll && takeReply(take, pending, agreed) !== undefined);
}

async function within(promise: Promise<unknown>, complaint: string): Promise<void> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(complaint)), SOON);
  });
  try {
    await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
