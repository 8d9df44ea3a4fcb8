/** All cases, in the order of the page. */
import { type Case, type Client, CONTROL, type Endpoint, type Program } from "../case.ts";
import {
  captiveFaults,
  clientFaults,
  commandFaults,
  copiedFaults,
  type Fault,
  fullFaults,
  heldFaults,
  interruptFaults,
  keeping,
  RARE_SIGNALS,
  readerFaults,
  signalFaults,
  SIGNALS,
  sourceCommandFaults,
  spoolFaults,
  stageFaults,
  stoppedSource,
  writerFaults,
} from "./faults.ts";
import { AFTER, MIDDLE_PIECE, PIECES } from "./positions.ts";

const RAW: Client = { kind: "raw", by: "run" };
const COPY: Client = { kind: "copy" };
const IMAGE: Client = { kind: "image" };

/** Somebody reads there. */
const READERS: readonly Endpoint[] = [
  ...(["FIFO", "Unix socket", "TCP socket", "stdout pipe", "fd:N"] as const),
  ...(["exec: command", "exec: pipeline"] as const),
];
const COMMANDS: readonly Endpoint[] = ["exec: command", "exec: pipeline"];
const STORES: readonly Endpoint[] = ["stdout file", "block device"];
const SOURCES: readonly Endpoint[] = [
  ...([
    "read= FIFO",
    "read= Unix socket",
    "read= TCP socket",
    "stdin pipe",
    "read= exec:",
  ] as const),
];

function on(program: Program, endpoints: readonly Endpoint[], faults: readonly Fault[]): Case[] {
  return endpoints.flatMap((endpoint) => faults.map((fault) => ({ program, endpoint, ...fault })));
}

function control(direction: "write" | "read", client: Client): Fault[] {
  const at = client.kind === "raw" ? "our client" : "-";
  return [{ fault: CONTROL, at, plan: { direction, client } }];
}

/** A device without any room at all. */
const DEV_FULL: Fault = {
  ...{ fault: "sink has no room", at: "pipe=/dev/full" },
  plan: { direction: "write", client: COPY },
};
const STDOUT_FULL: Fault = {
  ...DEV_FULL,
  ...{ at: "> /dev/full", plan: { ...DEV_FULL.plan, room: 0 } },
};

function ours(): Case[] {
  const sinks = [...READERS, ...STORES];
  const others = sinks.filter((sink) => !COMMANDS.includes(sink));
  const withImage = (faults: (client: Client) => Fault[], sources: readonly Endpoint[]) => [
    ...on("ours", sources, faults(RAW)),
    ...on("ours", sources, faults(IMAGE).map(intoImage)),
  ];
  return [
    ...on("ours", sinks, [...control("write", COPY), ...control("write", RAW)]),
    ...on("ours", READERS, readerFaults()),
    ...on("ours", COMMANDS, commandFaults()),
    ...on("ours", ["exec: pipeline"], stageFaults()),
    ...on("ours", sinks, [...clientFaults("write"), ...captiveFaults("write")]),
    ...on("ours", COMMANDS, [
      ...signalFaults("write", "serve", SIGNALS, PIECES),
      ...signalFaults("write", "run", SIGNALS, [MIDDLE_PIECE]).map(captive),
      ...signalFaults("write", "serve", RARE_SIGNALS, [MIDDLE_PIECE]),
    ]),
    ...on("ours", others, signalFaults("write", "run", SIGNALS, [MIDDLE_PIECE]).map(captive)),
    ...on("ours", [...COMMANDS, "FIFO", "stdout pipe"], interruptFaults("write")),
    ...on("ours", ["exec: command", ...STORES], fullFaults()),
    ...on("ours", ["character device"], [DEV_FULL, STDOUT_FULL]),
    ...on("ours", sinks, keeping("spool=", control("write", COPY))),
    ...on("ours", READERS, keeping("spool=", readerFaults())),
    ...on("ours", [...COMMANDS, "FIFO"], keeping("spool=", heldFaults("write", COPY))),
    ...on("ours", sinks, keeping("--hold", [...control("write", COPY), ...control("write", RAW)])),
    ...on("ours", READERS, keeping("--hold", readerFaults())),
    ...on("ours", COMMANDS, keeping("--hold", commandFaults())),
    ...on("ours", sinks, keeping("--hold", clientFaults("write").filter(isInFewPlaces))),
    ...on("ours", sinks, keeping("--hold", captiveFaults("write").filter(isInFewPlaces))),
    ...on("ours", [...COMMANDS, "FIFO"], keeping("--hold", heldFaults("write", COPY))),
    ...on("ours", COMMANDS, [
      ...keeping("--hold", signalFaults("write", "serve", SIGNALS, [MIDDLE_PIECE])),
      ...keeping("--hold", interruptFaults("write")),
    ]),
    ...on("ours", ["FIFO", "TCP socket"], keeping("--hold", spoolFaults())),
    ...on("ours", SOURCES, [...control("read", RAW), ...control("read", IMAGE)]),
    ...withImage(writerFaults, SOURCES),
    ...withImage(sourceCommandFaults, ["read= exec:"]),
    ...on("ours", ["read= FIFO", "read= exec:"], heldFaults("read", IMAGE).map(intoImage)),
    ...on("ours", SOURCES, stoppedSource(RAW)),
    ...on("ours", SOURCES, [...clientFaults("read"), ...captiveFaults("read")]),
    ...on("ours", SOURCES, signalFaults("read", "run", SIGNALS, [MIDDLE_PIECE]).map(captive)),
  ];
}

/**
 * Where a client is makes no difference to what is held, unless it has written all. One that says that it is done
 * is no fault: the rest of the disk is zeroes.
 */
function isInFewPlaces({ at, plan: { client } }: Fault): boolean {
  const isDone = client.kind === "raw" && client.status === undefined;
  if (isDone && client.turn?.deed === "finish") return false;
  return at === MIDDLE_PIECE.at || at === AFTER.at;
}

function captive(fault: Fault): Fault {
  return { ...fault, fault: fault.fault.replace("server", "server of `run`") };
}

function intoImage(fault: Fault): Fault {
  return { ...fault, fault: `${fault.fault} (into an image)` };
}

function nbdkit(): Case[] {
  const signals = (direction: "write" | "read") => [
    ...signalFaults(direction, "run", SIGNALS, PIECES).map(captive),
    ...interruptFaults(direction),
  ];
  return [
    ...on(
      "nbdkit",
      ["FIFO"],
      [
        ...control("write", COPY),
        ...control("write", RAW),
        ...readerFaults(),
        ...captiveFaults("write"),
        ...signals("write"),
      ],
    ),
    ...on("nbdkit", ["character device"], [DEV_FULL]),
    ...on(
      "nbdkit",
      ["read= FIFO"],
      [
        ...control("read", RAW),
        ...writerFaults(RAW),
        ...stoppedSource(RAW),
        ...captiveFaults("read"),
        ...signals("read"),
      ],
    ),
  ];
}

function nbdcopy(): Case[] {
  return [
    ...on(
      "nbdcopy",
      ["stdout pipe"],
      [
        ...control("write", COPY),
        ...readerFaults(),
        ...copiedFaults(),
        ...heldFaults("write", COPY),
      ],
    ),
    ...on("nbdcopy", ["stdout file"], fullFaults()),
    ...on("nbdcopy", ["character device"], [STDOUT_FULL]),
    ...on(
      "nbdcopy",
      ["stdin pipe"],
      [
        ...control("read", COPY),
        ...writerFaults(COPY),
        ...stoppedSource(COPY),
        ...heldFaults("read", COPY),
      ],
    ),
  ];
}

function file(): Case[] {
  return on(
    "file",
    ["stdout pipe"],
    [
      ...control("write", COPY),
      ...readerFaults(),
      ...heldFaults("write", COPY),
      ...fullFaults().map((one) => ({ ...one, fault: "temporary file has no room" })),
    ],
  );
}

export const CASES: readonly Case[] = [
  ...ours(),
  ...nbdkit(),
  ...nbdcopy(),
  ...on("qemu-img", ["stdout pipe"], control("write", COPY)),
  ...file(),
];

/** A part of them that says most in little time: of each fault, one position. */
export function quick(cases: readonly Case[]): Case[] {
  const first = new Set<string>();
  const middle = cases.filter(({ at }) => at === MIDDLE_PIECE.at);
  const has = (one: Case) => middle.some((other) => sameBut(one, other));
  return cases.filter((one) => {
    if (one.at === MIDDLE_PIECE.at) return true;
    const key = JSON.stringify([one.program, one.endpoint, one.fault]);
    if (has(one) || first.has(key)) return false;
    return first.add(key);
  });
}

/** They differ at most in where they are. */
function sameBut(one: Case, other: Case): boolean {
  return (
    one.program === other.program && one.endpoint === other.endpoint && one.fault === other.fault
  );
}
