/** `exec:` and the program at a terminal: its signals, and questions that are asked there. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import { pseudoRandom } from "../support/images.ts";
import {
  ASK_PASSWORD,
  CTRL_C,
  CTRL_Z,
  INTERRUPTED,
  JobShell,
  noJobShell,
} from "../support/job-shell.ts";
import { LIMIT } from "../support/limit.ts";
import { command, eventually, PROGRAM } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const DISK = pseudoRandom(300_000);
const TAKE = "cat > part; echo committed > done";
/** A later stage of a pipeline that does not care for Ctrl-C. */
const PIPELINE = `cat | (trap "" INT QUIT; ${TAKE})`;

let folder: ReturnType<typeof tempFolder>;
let shell: JobShell;

beforeEach(() => {
  folder = tempFolder();
  writeFileSync(folder.file("disk.raw"), DISK);
  shell = new JobShell(folder.path);
});
afterEach(async () => {
  await shell[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

const committed = () => existsSync(folder.file("done"));
const word = () => readFileSync(folder.file("word"), "utf8").trim();
const copy = "nbdcopy disk.raw '$uri'";

async function expectWhole(): Promise<void> {
  expect(await shell.status()).toBe(0);
  expect(readFileSync(folder.file("part")).equals(DISK)).toBe(true);
  expect(committed()).toBe(true);
  await expectNothingLeft();
}

async function expectTruncated(status: number): Promise<void> {
  expect(await shell.status()).toBe(status);
  await expectNothingLeft();
  expect(committed()).toBe(false);
}

/** Nothing runs any more that has been started in this place, and the terminal is as it was. */
async function expectNothingLeft(): Promise<void> {
  expect(await shell.echoes()).toBe(true);
  await eventually(() => started().length === 0, "all processes to end");
}

function started(): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      const cwd = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
      const name = readFileSync(`/proc/${pid}/comm`, "latin1").trim();
      return name !== "bash" && cwd.includes(`PWD=${folder.path}`);
    } catch {
      return false;
    }
  });
}

describe.skipIf(noJobShell !== undefined)("at a terminal (needs bash)", () => {
  test.each([
    ["run", "run", " -- sleep 60"],
    ["serve", "serve -U nbd.sock", ""],
  ])("Ctrl-C ends %s, and no stage of a pipeline takes it for the end", async (_, verb, rest) => {
    shell.run(`${verb} pipe=exec:'echo begun > begun; ${PIPELINE}' size=1M --no-progress${rest}`);
    await eventually(() => existsSync(folder.file("begun")), "the command");
    if (verb !== "run") await shell.showing(/listening on/);
    shell.type(CTRL_C);
    await shell.showing(/truncated: ended by SIGINT/);
    await expectTruncated(INTERRUPTED);
  });

  test("Ctrl-Z stops the program and the captive command, and fg continues the stream", async () => {
    const captive = `'echo begun > begun; until [ -e gate ]; do sleep 0.02; done; nbdcopy disk.raw "$uri"'`;
    shell.run(`run pipe=exec:'${TAKE}' size=300000 -- ${captive}`);
    await eventually(() => existsSync(folder.file("begun")), "the command");
    shell.type(CTRL_Z);
    await shell.showing(/Stopped/);
    await shell.ready();
    writeFileSync(folder.file("gate"), "");
    await Bun.sleep(200);
    expect(existsSync(folder.file("part")) && readFileSync(folder.file("part")).length > 0).toBe(
      false,
    );
    await shell.foreground();
    await expectWhole();
  });

  describe.each([
    ["alone", `sh ask; ${TAKE}`],
    ["in a pipeline", `cat | { sh ask; ${TAKE}; }`],
  ])("a command that asks for a password, %s,", (_, sink) => {
    const words = `run pipe=exec:'${sink}' size=300000 -- ${copy}`;
    beforeEach(() => writeFileSync(folder.file("ask"), ASK_PASSWORD));

    test("gets it", async () => {
      shell.run(words);
      await shell.showing(/password: /);
      shell.type("secret\n");
      await expectWhole();
      expect(word()).toBe("secret");
    });

    test("is ended by Ctrl-C, with the program", async () => {
      shell.run(words);
      await shell.showing(/password: /);
      shell.type(CTRL_C);
      await shell.showing(/truncated: ended by SIGINT/);
      await expectTruncated(INTERRUPTED);
    });

    test("is ended by a signal to the program, and the terminal shows again what is typed", async () => {
      shell.run(words);
      await shell.showing(/password: /);
      const pid = started().find((one) => {
        return readFileSync(`/proc/${one}/cmdline`, "latin1").startsWith(PROGRAM.join("\0"));
      });
      process.kill(Number(pid), "SIGTERM");
      await expectTruncated(143);
    });

    test("is stopped by Ctrl-Z, with the program, and asks on after fg", async () => {
      shell.run(words);
      await shell.showing(/password: /);
      shell.type(CTRL_Z);
      await shell.showing(/Stopped/);
      await shell.showing(/status=148/);
      await shell.ready();
      await shell.foreground();
      await shell.lending();
      shell.type("secret\n");
      await expectWhole();
      expect(word()).toBe("secret");
    });

    test("stops the program in the background, as all that reads the terminal there, until fg", async () => {
      shell.type("set -b\n");
      shell.runInBackground(words);
      await shell.showing(/Stopped/);
      await shell.foreground(false);
      await shell.showing(/password: /);
      shell.type("secret\n");
      await expectWhole();
      expect(word()).toBe("secret");
    });
  });

  test.skipIf(Bun.which("python3") === null)(
    "Ctrl-Z is not lost where the command takes it long after those that it has started (needs python3)",
    async () => {
      // posix_spawn(3) returns when its child has opened the FIFO. Until then its caller takes no signal.
      const lines = [
        "import os, subprocess, time",
        "asking = subprocess.Popen(['sh', 'ask'])",
        "while not os.path.exists('asked'): time.sleep(0.02)",
        "action = (os.POSIX_SPAWN_OPEN, 0, 'busy', os.O_RDONLY, 0)",
        "os.posix_spawnp('true', ['true'], os.environ, file_actions=[action], setpgroup=0)",
        "asking.wait()",
        `os.execvp('sh', ['sh', '-c', '${TAKE}'])`,
      ];
      writeFileSync(folder.file("leader.py"), `${lines.join("\n")}\n`);
      writeFileSync(
        folder.file("ask"),
        ASK_PASSWORD.replace("read -r", "echo $PPID > asked; read -r"),
      );
      mkfifo(folder.file("busy"), 0o600);
      shell.run(`run pipe=exec:'exec python3 leader.py' size=300000 -- ${copy}`);
      await shell.showing(/password: /);
      const asked = () => existsSync(folder.file("asked")) && readFileSync(folder.file("asked"));
      const state = () =>
        /^\d+ \(.*\) (.)/.exec(readFileSync(`/proc/${`${asked()}`.trim()}/stat`, "latin1"))?.[1];
      await eventually(() => /\d\n/.test(`${asked()}`) && state() === "D", "it to be busy");
      shell.type(CTRL_Z);
      // Several checks of the program's.
      await Bun.sleep(600);
      writeFileSync(folder.file("busy"), "");
      await shell.showing(/Stopped/);
      await shell.showing(/status=148/);
      await shell.ready();
      await shell.foreground();
      await shell.lending("leader.py");
      shell.type("secret\n");
      await expectWhole();
      expect(word()).toBe("secret");
    },
  );

  test("a source that asks for a password gets it", async () => {
    writeFileSync(folder.file("ask"), ASK_PASSWORD);
    shell.run("run read=exec:'sh ask; cat disk.raw' size=300000 -- nbdcopy '$uri' part");
    await shell.showing(/password: /);
    shell.type("secret\n");
    expect(await shell.status()).toBe(0);
    expect(word()).toBe("secret");
    expect(readFileSync(folder.file("part")).subarray(0, DISK.length).equals(DISK)).toBe(true);
    await expectNothingLeft();
  });

  test("Ctrl-C is the program's again when a question has been answered, whatever was asked", async () => {
    const ask = "printf 'sure? ' > /dev/tty; read -r word < /dev/tty; echo $word > word";
    const captive = `'${'until [ -e gate ]; do sleep 0.02; done; nbdcopy disk.raw "$uri"'}; sleep 60'`;
    shell.run(
      `run pipe=exec:"${ask.replaceAll("$", "\\$")}; ${PIPELINE.replaceAll('"', '\\"')}" size=1M -- ${captive}`,
    );
    await shell.showing(/sure\? /);
    await shell.lending();
    shell.type("yes\n");
    await eventually(() => existsSync(folder.file("word")), "the answer to arrive");
    writeFileSync(folder.file("gate"), "");
    await eventually(
      () => existsSync(folder.file("part")) && readFileSync(folder.file("part")).length > 0,
      "the stream",
    );
    await shell.returned();
    shell.type(CTRL_C);
    await shell.showing(/truncated: ended by SIGINT/);
    await expectTruncated(INTERRUPTED);
    expect(word()).toBe("yes");
  });

  test.skipIf(Bun.which("ssh-keygen") === null)(
    "ssh gets a passphrase as it asks for it (needs ssh-keygen)",
    async () => {
      const key = ["-q", "-t", "ed25519", "-N", "secret", "-f", folder.file("key")];
      await command(["ssh-keygen", ...key]);
      const sink = `ssh-keygen -y -f key > public && { ${TAKE}; }`;
      shell.run(`run pipe=exec:'${sink}' size=300000 -- ${copy}`);
      await shell.showing(/passphrase/);
      await shell.lending();
      // It sets the terminal up once it has got it, and throws away what was typed before.
      await shell.hiding();
      shell.type("secret\n");
      await expectWhole();
      expect(readFileSync(folder.file("public"), "utf8")).toMatch(/^ssh-ed25519 /);
    },
  );
});
