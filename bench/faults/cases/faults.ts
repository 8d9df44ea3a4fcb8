/** The faults by their names on the page, as plans for a stream in either direction. */
import {
  type Act,
  type Client,
  type ClientTurn,
  CONTROL,
  type Direction,
  type Keeps,
  type Plan,
  type Stage,
} from "../case.ts";
import {
  AFTER,
  BEFORE,
  HELD,
  MIDDLE_PIECE,
  PIECES,
  type Position,
  POSITIONS,
} from "./positions.ts";

/** A fault, and where; a case without a program and what is at the other end. */
export interface Fault {
  readonly fault: string;
  readonly at: string;
  readonly plan: Plan;
}

const COPY: Client = { kind: "copy" };

/** How long somebody who has stopped for ever is waited for, before the program is told to end. */
const PATIENCE_MS = 2_000;

/** What ends a program that does not catch it (signal(7)). */
export const SIGNALS: readonly NodeJS.Signals[] = [
  ...(["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2", "SIGALRM"] as const),
  "SIGKILL",
];

export const RARE_SIGNALS: readonly NodeJS.Signals[] = [
  ...(["SIGABRT", "SIGSEGV", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGIO", "SIGBUS"] as const),
];

function positioned(
  fault: string,
  positions: readonly Position[],
  plan: (byte: number) => Plan,
): Fault[] {
  return positions.map(({ at, byte }) => ({ fault, at, plan: plan(byte) }));
}

const write = (plan: Omit<Plan, "direction" | "client">): Plan => ({
  direction: "write",
  client: COPY,
  ...plan,
});

/** What the reader of a stream does. */
export function readerFaults(): Fault[] {
  const early = [BEFORE, ...POSITIONS];
  return [
    ...positioned("reader leaves early, with 0", early, (at) =>
      write({ turn: { at, deed: "leave" } }),
    ),
    ...positioned("reader is killed", early, (at) => write({ turn: { at, deed: "kill" } })),
    ...positioned("reader leaves after the last byte", [AFTER], (at) =>
      write({ turn: { at, deed: "leave" } }),
    ),
    ...positioned("reader is killed after the last byte", [AFTER], (at) =>
      write({ turn: { at, deed: "kill" } }),
    ),
    { fault: "reader fails at its end", at: "-", plan: write({ last: 7 }) },
    ...positioned("reader stops for ever, then SIGTERM", POSITIONS, (at) =>
      write({
        turn: { at, deed: "stop" },
        acts: [enough("endpoint")],
      }),
    ),
  ];
}

/** What only a command does that the program has started. */
export function commandFaults(): Fault[] {
  return [
    ...positioned("command fails early", [BEFORE, ...POSITIONS], (at) =>
      write({ turn: { at, deed: "leave", status: 3 } }),
    ),
    { fault: "command is killed at its end", at: "-", plan: write({ last: "kill" }) },
  ];
}

/** A pipeline of which the first stage dies: the last one sees an end. */
export function stageFaults(): Fault[] {
  return positioned("first stage of the pipeline is killed", POSITIONS, (at) =>
    write({ stage: { at, deed: "kill" } }),
  );
}

type Waiting = Omit<Extract<Client, { kind: "raw" }>, "kind" | "turn">;

function stopped(
  direction: Direction,
  { at, stage }: Pick<ClientTurn, "at" | "stage">,
  client: Waiting,
): Omit<Plan, "acts"> {
  return { direction, client: { kind: "raw", ...client, turn: { at, stage, deed: "wait" } } };
}

const KILL: Act = { when: "client", signal: "SIGKILL", to: "client" };

/** The program still waits, which may be right: it is told to end. */
const enough = (when: Act["when"]): Act => ({
  ...{ when, signal: "SIGTERM", to: "program", after: PATIENCE_MS },
});

/**
 * What a server does when a client is gone that it has not started. Of a stream that is read, the first
 * part is still there for the next client, for which it waits.
 */
const gone = (direction: Direction, at: number): Act[] =>
  direction === "read" && at === PIECES[0]?.byte ? [enough("client")] : [];

/** A client of a server that has not started it. */
export function clientFaults(direction: Direction): Fault[] {
  const kill = (fault: string, stage: Stage, positions: readonly Position[]) =>
    positioned(fault, positions, (at) => ({
      ...stopped(direction, { at, stage }, { by: "serve" }),
      acts: [KILL, ...gone(direction, at)],
    }));
  const leave = (fault: string, deed: "leave" | "finish", positions: readonly Position[]) =>
    positioned(fault, positions, (at) => ({
      direction,
      client: { kind: "raw", by: "serve", turn: { at, stage: "between requests", deed } },
      acts: gone(direction, at),
    }));
  return [
    ...kill("client is killed between requests", "between requests", PIECES),
    ...kill("client is killed in a header", "in a header", PIECES),
    ...kill("client is killed in a payload", "in a payload", PIECES),
    ...kill("client is killed before NBD_CMD_DISC", "between requests", [AFTER]),
    ...leave("client leaves without NBD_CMD_DISC", "leave", [...PIECES, AFTER]),
    ...leave("client leaves early, with NBD_CMD_DISC", "finish", PIECES),
  ];
}

/** A client that the program runs. */
export function captiveFaults(direction: Direction): Fault[] {
  const run = { by: "run" } as const;
  const hidden = { by: "run", hidden: true } as const;
  const hides = (stage: Stage) =>
    positioned(`command hides that its client was killed ${stage}`, [MIDDLE_PIECE], (at) => ({
      ...stopped(direction, { at, stage }, hidden),
      acts: [KILL],
    }));
  return [
    ...positioned("captive client is killed in a payload", PIECES, (at) => ({
      ...stopped(direction, { at, stage: "in a payload" }, run),
      acts: [KILL],
    })),
    ...positioned("captive command fails", [BEFORE, MIDDLE_PIECE, AFTER], (at) => ({
      direction,
      client: {
        ...{ kind: "raw", by: "run", status: 3 },
        turn: { at, stage: "between requests", deed: "finish" },
      },
    })),
    ...hides("between requests"),
    ...hides("in a header"),
    ...hides("in a payload"),
    ...positioned("command hides that its client left without NBD_CMD_DISC", PIECES, (at) => ({
      direction,
      client: {
        ...{ kind: "raw", by: "run", hidden: true },
        turn: { at, stage: "between requests", deed: "leave" },
      },
    })),
  ];
}

/** Of a program with a client, which is in the middle of a request. */
export function signalFaults(
  direction: Direction,
  by: "serve" | "run",
  signals: readonly NodeJS.Signals[],
  positions: readonly Position[],
): Fault[] {
  return signals.flatMap((signal) =>
    positioned(`${signal} to the server`, positions, (at) => ({
      ...stopped(direction, { at, stage: "in a payload" }, { by }),
      acts: [{ when: "client", signal, to: "server" }],
    })),
  );
}

/** As Ctrl-C does. */
export function interruptFaults(direction: Direction): Fault[] {
  return positioned("SIGINT to the process group", PIECES, (at) => ({
    ...stopped(direction, { at, stage: "in a payload" }, { by: "run" }),
    acts: [{ when: "client", signal: "SIGINT", to: "group" }],
  }));
}

/** Of a program that cannot go on meanwhile, because its reader or writer waits. */
export function heldFaults(direction: Direction, client: Client): Fault[] {
  return SIGNALS.flatMap((signal) =>
    positioned(`${signal} to the program`, HELD, (at) => ({
      ...{ direction, client },
      turn: { at, deed: "wait" },
      acts: [{ when: "endpoint", signal, to: "program" }],
    })),
  );
}

const reading =
  (client: Client) =>
  (plan: Omit<Plan, "direction" | "client">): Plan => ({ direction: "read", client, ...plan });

/** What the writer of a stream that is read does. @param client who reads it */
export function writerFaults(client: Client): Fault[] {
  const read = reading(client);
  return [
    ...positioned("source ends early, with 0", [BEFORE, ...POSITIONS], (at) =>
      read({ turn: { at, deed: "leave" } }),
    ),
    ...positioned("source is killed", [BEFORE, ...POSITIONS], (at) =>
      read({ turn: { at, deed: "kill" } }),
    ),
  ];
}

/** @param client who reads from a command that the program has started */
export function sourceCommandFaults(client: Client): Fault[] {
  const read = reading(client);
  return [
    ...positioned("source fails early", POSITIONS, (at) =>
      read({ turn: { at, deed: "leave", status: 3 } }),
    ),
    { fault: "source fails at its end", at: "-", plan: read({ last: 3 }) },
    { fault: "source is killed at its end", at: "-", plan: read({ last: "kill" }) },
  ];
}

export function stoppedSource(client: Client): Fault[] {
  return positioned("source stops for ever, then SIGTERM", POSITIONS, (at) => ({
    ...{ direction: "read", client },
    turn: { at, deed: "stop" },
    acts: [enough("endpoint")],
  }));
}

/** The NBD server that a copier copies from; it reads ahead of what it writes. */
export function copiedFaults(): Fault[] {
  const held = (fault: string, signal: NodeJS.Signals) =>
    positioned(fault, HELD, (at) =>
      write({ turn: { at, deed: "wait" }, acts: [{ when: "endpoint", signal, to: "source" }] }),
    );
  return [
    ...held("NBD server is killed", "SIGKILL"),
    ...held("NBD server gets SIGTERM", "SIGTERM"),
    ...positioned("NBD server stops for ever, then SIGTERM", HELD, (at) =>
      write({
        turn: { at, deed: "wait" },
        acts: [{ when: "endpoint", signal: "SIGSTOP", to: "source" }, enough("endpoint")],
      }),
    ),
    ...positioned("disk cannot be read (EIO)", HELD, (at) => write({ unreadable: at })),
  ];
}

/** @param rooms in bytes, by where the sink is full then */
/** The same with a folder for what is not streamed yet. */
export function keeping(keeps: Keeps, faults: readonly Fault[]): Fault[] {
  return faults.map(({ fault, at, plan }) => {
    const kept = { ...plan, keeps };
    // A control is known by its name.
    if (fault === CONTROL) return { fault, at: at === "-" ? keeps : `${at}, ${keeps}`, plan: kept };
    return { fault: `${fault} (${keeps})`, at, plan: kept };
  });
}

export function spoolFaults(): Fault[] {
  return fullFaults().map((one) => ({ ...one, fault: "spool has no room" }));
}

export function fullFaults(rooms: readonly Position[] = POSITIONS): Fault[] {
  const pages = (byte: number) => Math.ceil(byte / 4096) * 4096;
  return positioned("sink has no room", rooms, (byte) => write({ room: pages(byte) }));
}
