/** The fault table as a Markdown page. */
import { markdownList, markdownTable } from "../../report/markdown.ts";
import { type Program, PROGRAMS } from "../case.ts";
import { verdictOf } from "./stored.ts";
import {
  byEndpoint,
  byFault,
  type Entry,
  isControl,
  isGood,
  ofProgram,
  type Totals,
  totals,
} from "./totals.ts";

const TITLES: Record<Program, string> = {
  ours: "nbd-streaming",
  nbdkit: "nbdkit's streaming plugin",
  nbdcopy: "nbdcopy",
  "qemu-img": "`qemu-img dd | cat`",
  file: "a temporary file",
};

const LINES: Record<Program, string> = {
  ours: "`run` and `serve` with every kind of sink, and with `read=`",
  nbdkit: "nbdkit 1.24, the last one of Debian with that plugin, with its command (`--run`)",
  nbdcopy:
    "`nbdcopy URI - | reader`, out of `qemu-nbd`; the other way `writer | nbdcopy - URI`, into it",
  "qemu-img": "`qemu-img dd … of=/dev/stdout | reader`",
  file: "`qemu-img convert … whole.raw && cat whole.raw`, into a pipe",
};

const DEFINITIONS = `# Faults

The same faults, injected into five ways to get a disk into a pipe or out of one. \`bun run faults\` makes this page
([bench/README.md](../README.md#faults)); [faults.json](faults.json) has each run.

The disk has 4 MiB of random data. A fault is injected near the start, in the middle and near the end, where that makes a
difference. In the tables:

- **every byte**: the reader's SHA-256 is the disk's, and the reader has not failed if the program has started it. The
  reader is the process that takes the stream, the file or device that it goes to, or with \`read=\` the client.
- **status**: what the user looks at. For a server that is its own exit status; for a pipeline of a shell, that of the
  pipeline with \`pipefail\`. 128 + N is an end by signal N.
- **false success**: the status is 0 though the reader does not have every byte; or what the program itself has started
  (\`exec:\`, with a pipeline its last command; an image that it makes) takes a part for the whole: a command sees an
  ordinary end of file, and an image is there under its name.
- **hang**: it has not ended 10 s after the fault. Whoever waits for a reader or a source that has only stopped does what
  he should, and so does a server that waits for the next client while nothing of its source is lost; after 2 s they get
  SIGTERM, and have 10 s from then on.
- **misled**: a reader that the program has not started sees an ordinary end of a truncated stream, or the last command
  of a pipeline ends with 0: without the program's status (without \`pipefail\`) nobody would know. A pipe and a socket
  cannot tell more.
- **what the reader could know**: that its stream had an ordinary end, or an error; or it was killed before; or it still
  waited when all was over; or it was gone, because that was the fault, or it failed by itself; a file knows nothing.
- **(spool=)**, **(--hold)**: the same, with a client that writes in any order into a stream with \`spool=\`, and one that is
  held until its clients are done.
- **not injected**: the stream was over before the fault could take effect, three times. Such runs are in no other figure.

- **beyond knowing**: what would be a false success, but where nothing that the program can ask would have told it. In a
  pipeline of \`exec:\` only the shell knows how a stage has ended: if the first one is killed, the last sees an ordinary end
  before the server can see anything; and if the last one leaves with 0 when the first has all that it waits for, the
  command has succeeded. A reader over TCP that stops for ever has a kernel that acknowledges what it will never read.
`;

export function page(entries: readonly Entry[], facts: readonly string[]): string {
  const present = PROGRAMS.filter((program) => ofProgram(entries, program).length > 0);
  const parts = [
    DEFINITIONS,
    `## Programs\n\n${summary(entries, present)}\n${repeated(entries)}`,
    ...present.map((program) => section(program, ofProgram(entries, program))),
    oddities(entries),
    `## Made with\n\n${markdownList(facts)}`,
  ];
  return parts.filter((part) => part !== "").join("\n");
}

function repeated(entries: readonly Entry[]): string {
  const again = entries.filter(({ injected, tries }) => injected && tries > 1).length;
  return `Runs that were repeated, because the fault came too late at first: ${again}.\n`;
}

/** The figures of all programs, and of all their faults together. */
export function summary(entries: readonly Entry[], programs: readonly Program[]): string {
  const lines = programs.map((program) => {
    const own = ofProgram(entries, program);
    const controls = own.filter(isControl);
    const good = controls.filter(isGood).length;
    const faults = totals(own.filter((entry) => !isControl(entry)));
    const whole = controls.length === 0 ? "-" : `${good} of ${controls.length}`;
    return [TITLES[program], ...figures(faults), whole, LINES[program]];
  });
  const head = [
    ...["program", "faults", "false successes", "beyond knowing", "hangs", "misled"],
    "not injected",
    ...["whole without a fault", "what runs"],
  ];
  return table(head, lines, [0, head.length - 1]);
}

/** Within a table, a bar in a cell would be the end of it. */
function table(head: string[], lines: string[][], text: number[]): string {
  const escaped = lines.map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  return markdownTable(head, escaped, text);
}

function figures(of: Totals): string[] {
  const { runs, falseSuccesses, beyondKnowing, hangs, misled, notInjected } = of;
  if (runs + notInjected === 0) return ["-", "-", "-", "-", "-", "-"];
  return [runs, falseSuccesses, beyondKnowing, hangs, misled, notInjected].map(String);
}

function section(program: Program, entries: readonly Entry[]): string {
  const title = `## ${TITLES[program]}\n`;
  const refused = entries.filter((entry) => isControl(entry) && !isGood(entry));
  const complaints = refused.map(
    ({ endpoint, status, said = "" }) =>
      `Without any fault, ${endpoint}: status ${status ?? "none"}, and what comes out is not whole. \`${said}\`\n`,
  );
  const faults = byFault(entries);
  if (faults.size === 0) return [title, ...complaints].join("\n");
  const head = [
    ...["fault", "runs", "false successes", "beyond knowing", "hangs", "misled"],
    ...["status", "what the reader could know"],
  ];
  const lines = [...faults].map(([fault, its]) => [fault, ...cells(totals(its))]);
  const all = table(head, lines, [0, head.length - 2, head.length - 1]);
  return [title, ...complaints, all, program === "ours" ? ends(entries) : ""]
    .filter((part) => part !== "")
    .join("\n");
}

function cells(of: Totals): string[] {
  const { runs, notInjected } = of;
  const part = (count: number) => (count === 0 ? "0" : `**${count}** of ${runs}`);
  return [
    notInjected === 0 ? String(runs) : `${runs}, ${notInjected} not injected`,
    ...[of.falseSuccesses, of.beyondKnowing, of.hangs].map(part),
    of.misled === 0 ? "0" : `${of.misled} of ${runs}`,
    frequent(of.statuses),
    frequent(of.knowledge),
  ];
}

/** The values and how often each was there, unless there was only one. */
function frequent(values: readonly [string, number][]): string {
  if (values.length === 1) return values[0]?.[0] ?? "";
  return values.map(([value, runs]) => `${value} (${runs})`).join(", ");
}

/** The same runs by what is at the other end of the stream. */
function ends(entries: readonly Entry[]): string {
  const lines = [...byEndpoint(entries)].map(([end, its]) => [end, ...figures(totals(its))]);
  const head = [
    ...["sink or source", "faults", "false successes", "beyond knowing", "hangs", "misled"],
    "not injected",
  ];
  return `The same runs by the sink or source:\n\n${table(head, lines, [0])}`;
}

/** Each run that should not be as it was. */
function oddities(entries: readonly Entry[]): string {
  const odd = entries.filter((entry) => !isControl(entry)).flatMap(lineOf);
  if (odd.length === 0) return "";
  const head = ["program", "sink or source", "fault", "where", "what", "status"];
  return `## One by one\n\n${table(head, odd, [...head.keys()])}`;
}

function lineOf(entry: Entry): string[][] {
  const { program, endpoint, fault, at, status } = entry;
  const what = verdictOf(entry);
  if (what === "ok" || what === "misled") return [];
  return [[program, endpoint, fault, at, what, String(status ?? "-")]];
}
