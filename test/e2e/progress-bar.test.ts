/** The bar on a real terminal: where it is, what it leaves alone, and that nothing is left of it. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { eventually, PROGRAM } from "../support/program.ts";
import { noTerminal, Terminal } from "../support/terminal.ts";
import { LIMIT } from "../support/limit.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const BAR = /^ *\d+%( \[#*\.*\])?( |$)/;
const WRITE = `qemu-io -f raw -c 'write -P 1 0 6M' "$nbd" >/dev/null`;
const END = "nbd-streaming: 8388608 bytes";

/** Where files are; `gate` waits until the test has opened it. */
class Stage implements Disposable {
  readonly #folder = tempFolder();
  /** Shell words. */
  sink = "cat >/dev/null";
  terminal: Terminal | undefined;

  /** Runs the program in a terminal, with a captive command of shell words. */
  run(
    captive: string,
    [columns, rows]: readonly [number, number],
    options = "",
    env = "",
    behind = "",
  ): Terminal {
    const gate = "gate() { until [ -e $1 ]; do sleep 0.02; done; }";
    writeFileSync(this.#folder.file("captive.sh"), `${gate}\n${captive}\n`);
    const words = [...PROGRAM, "run", `pipe=exec:'${this.sink}'`, "size=8M", options];
    // The shell has to outlive a Ctrl-C that is meant for the program.
    const back = "while [ $s = 148 ]; do until [ -e back ]; do sleep 0.02; done; fg; s=$?; done";
    const line = [
      "trap : INT",
      `${env} ${words.join(" ")} -P pid -- sh captive.sh ${behind}`,
      `s=$?; ${back}; echo status $s`,
    ].join("\n");
    this.terminal = new Terminal(line, this.#folder.path, columns, rows);
    return this.terminal;
  }

  open(gate: string): void {
    writeFileSync(this.#folder.file(gate), "");
  }

  has(name: string): boolean {
    return existsSync(this.#folder.file(name));
  }

  /** The program's process id. */
  get pid(): number {
    return Number(readFileSync(this.#folder.file("pid"), "utf8"));
  }

  [Symbol.dispose](): void {
    this.terminal?.[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

/** Numbered lines, as the captive command writes them. */
const count = (from: number, to: number) => `for i in $(seq ${from} ${to}); do echo line $i; done`;
const lines = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `line ${from + i}`);

const hasBar = (rows: string[]) => BAR.test(rows.at(-1) ?? "");
const hasEnded = (rows: string[]) => rows.some((row) => row.startsWith("status "));

/** What the command said must be all there, each line as it was, and then the summary. */
function expectWhole(terminal: Terminal, said: string[], end = END): void {
  const { transcript } = terminal;
  expect(transcript.slice(0, said.length)).toEqual(said);
  expect(transcript[said.length]).toStartWith(end);
  expect(transcript.slice(said.length + 1)).toEqual([expect.stringMatching(/^status \d+$/)]);
}

describe.skipIf(noTerminal !== undefined)("the bar (needs tmux)", () => {
  test.each([
    [80, 24],
    [40, 10],
    [20, 6],
  ] as const)("leaves no trace at %d columns and %d rows", async (columns, rows) => {
    using stage = new Stage();
    const terminal = stage.run(
      `${count(1, 3)}; printf 'half '; gate a; echo whole; ${count(4, 60)}; gate b; ${WRITE}`,
      [columns, rows],
    );
    // On a busy machine the bar may be there before the command has said anything.
    await terminal.showing((all) => hasBar(all) && all.includes("half"), "the bar");
    expect(terminal.rows.slice(0, 4)).toEqual(["line 1", "line 2", "line 3", "half"]);
    stage.open("a");
    await terminal.showing((all) => all.includes("line 60") && hasBar(all), "the last line");
    expect(terminal.rows.slice(0, -2)).toEqual([...lines(60 - (rows - 3), 60)]);
    stage.open("b");
    await terminal.showing(hasEnded, "the end");
    expectWhole(terminal, [...lines(1, 3), "half whole", ...lines(4, 60)]);
    expect(terminal.transcript.join("\n")).toContain("): complete".slice(2));
  });

  test("follows a terminal that is resized, and leaves no trace of where it was", async () => {
    using stage = new Stage();
    const steps = ["a", "b", "c", "d"].map((gate, i) => {
      return `gate ${gate}; echo more; ${count(10 * i + 1, 10 * i + 10)}; printf 'half '`;
    });
    const terminal = stage.run(
      `printf 'half '; ${steps.join("; ")}; gate e; echo; ${WRITE}`,
      [80, 24],
    );
    await terminal.showing(hasBar, "the bar");
    const sizes = [
      [40, 12],
      [100, 30],
      [60, 8],
      [80, 24],
    ] as const;
    for (const [i, [columns, rows]] of sizes.entries()) {
      terminal.resize(columns, rows);
      // tmux may tell the program some time later; until then nobody can keep the last row free.
      const isKept = () => terminal.lastScrolling === rows - 1;
      await terminal.showing((all) => isKept() && hasBar(all), "the bar");
      expect(terminal.rows.filter((row) => BAR.test(row))).toHaveLength(1);
      stage.open("abcd"[i] as string);
      const upTo = `line ${10 * i + 10}`;
      await terminal.showing((all) => all[all.indexOf(upTo) + 1] === "half", "more lines");
    }
    stage.open("e");
    await terminal.showing(hasEnded, "the end");
    const said = [0, 1, 2, 3].flatMap((i) => ["half more", ...lines(10 * i + 1, 10 * i + 10)]);
    expectWhole(terminal, [...said, "half"]);
  });

  test.each([
    ["Ctrl-C", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("is gone after %s, and the terminal is whole again", async (how, status) => {
    using stage = new Stage();
    const terminal = stage.run(`${count(1, 40)}; printf half; gate a`, [80, 12]);
    await terminal.showing(hasBar, "the bar");
    if (how === "Ctrl-C") terminal.press("C-c");
    else process.kill(stage.pid, how);
    await terminal.showing((all) => all.includes(`status ${status}`), "the end");
    expect(terminal.rows.filter((row) => BAR.test(row))).toEqual([]);
    for (let i = 0; i < 15; i++) terminal.press("Enter");
    // All rows scroll again, the last one too.
    await terminal.showing((all) => !all.some((row) => row.includes("status")), "an empty screen");
  });

  test("is gone when the program is killed by SIGQUIT", async () => {
    using stage = new Stage();
    const terminal = stage.run("ulimit -c 0; gate a", [80, 12], "", "ulimit -c 0;");
    await terminal.showing(hasBar, "the bar");
    process.kill(stage.pid, "SIGQUIT");
    await terminal.showing((all) => all.includes("status 131"), "the end");
    expect(terminal.rows.filter((row) => BAR.test(row))).toEqual([]);
    stage.open("a");
  });

  test("goes while the program is stopped, and comes back", async () => {
    using stage = new Stage();
    // A job of its own, as in an interactive shell: others are not stopped.
    const terminal = stage.run(`gate a; ${WRITE}`, [80, 12], "", "set -m;");
    await terminal.showing(hasBar, "the bar");
    const { pid } = stage;
    process.kill(pid, "SIGTSTP");
    await eventually(() => stateOf(pid) === "T", "the program to stop");
    // tmux may show later what the program has written before.
    await terminal.showing((all) => !all.some((row) => BAR.test(row)), "no bar");
    stage.open("back");
    await terminal.showing(hasBar, "the bar");
    stage.open("a");
    await terminal.showing(hasEnded, "the end");
    expect(terminal.transcript.at(-1)).toBe("status 0");
    expect(terminal.transcript.filter((row) => BAR.test(row))).toEqual([]);
  });

  test("is not there in the background of a shell", async () => {
    using stage = new Stage();
    // qemu-io would be stopped there: it sets the terminal up.
    const captive = 'sleep 1.5; touch looked; gate a; head -c 8M /dev/zero | nbdcopy -- - "$uri"';
    const terminal = stage.run(captive, [80, 12], "", "set -m;", "& wait $!");
    await eventually(() => stage.has("looked"), "the command to have run for a while");
    expect(terminal.rows.join("")).toBe("");
    expect(terminal.lastScrolling).toBe(12);
    stage.open("a");
    await terminal.showing((rows) => rows.includes("status 0"), "the end");
  });

  test("tells whom the stream waits for, in colours", async () => {
    using stage = new Stage();
    const terminal = stage.run("gate a", [80, 12]);
    await terminal.showing((all) => all.at(-1)?.endsWith("waiting for a client") === true, "it");
    expect(terminal.coloured).toContain("\x1b[33mwaiting for a client");
  });

  test("has no gauge and no percentage while a stream is held, and then those of what is streamed", async () => {
    using stage = new Stage();
    stage.sink = "until [ -e out ]; do sleep 0.02; done; cat >/dev/null";
    const terminal = stage.run(`${WRITE}; gate a`, [90, 12], "spool=. --hold");
    const shows = (pattern: RegExp) => (rows: string[]) => pattern.test(rows.at(-1) ?? "");
    await terminal.showing(
      shows(/^holding 6.00 MiB, [\d.]+ \w+\/s waiting for a client$/),
      "what is held",
    );
    stage.open("a");
    await terminal.showing(
      shows(/^ ?\d+% \[#+\.+\] 1.0\d MiB of 8.00 MiB, .*, 6.00 MiB spooled reader is slow$/),
      "what is streamed",
    );
    stage.open("out");
    await terminal.showing(hasEnded, "the end");
    expectWhole(terminal, []);
  });

  test("has no colours with NO_COLOR", async () => {
    using stage = new Stage();
    const terminal = stage.run("gate a", [80, 12], "", "NO_COLOR=1");
    await terminal.showing(hasBar, "the bar");
    expect(terminal.coloured).not.toContain("\x1b[3");
  });

  test.each([
    ["--no-progress", "", "--no-progress"],
    ["--quiet", "", "--quiet"],
    ["TERM=dumb", "TERM=dumb", ""],
  ])("is not there with %s", async (_, env, option) => {
    using stage = new Stage();
    // Far longer than a bar takes to appear.
    const terminal = stage.run(`sleep 1.5; touch looked; gate a; ${WRITE}`, [80, 12], option, env);
    await eventually(() => stage.has("looked"), "the command to have run for a while");
    expect(terminal.rows.join("")).toBe("");
    stage.open("a");
    await terminal.showing(hasEnded, "the end");
    const [first] = terminal.transcript;
    expect(first).toStartWith(option === "--quiet" ? "status 0" : END);
  });
});

/** A process's state (proc(5), stat). */
function stateOf(pid: number): string | undefined {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2)[0];
}
