/** A session in a real terminal, to be shown: a stream with its bar, a truncated one, and `check`. */
import { join } from "node:path";
import { command } from "../test/support/program.ts";
import { binFolder } from "../test/support/documented.ts";
import { pseudoRandom } from "../test/support/images.ts";
import { quoted } from "../test/support/shell.ts";
import { tempFolder } from "../test/support/temp.ts";
import { Terminal } from "../test/support/terminal.ts";

export const COLUMNS = 92;
const ROWS = 16;
const MiB = 1024 * 1024;

const STREAM = "nbd-streaming run pipe=exec:'zstd -q -o disk.raw.zst' disk.qcow2";
const TRUNCATED = "nbd-streaming run pipe=exec:'zstd -q -o other.raw.zst' broken.qcow2; echo $?";
const CHECK = "nbd-streaming check -- qemu-img convert -n disk.qcow2 -O raw '$nbd'";

/** What the session needs beside the program. */
export const NEEDS = ["tmux", "qemu-img", "zstd"];

/**
 * Runs it.
 *
 * @returns the rows of each of its parts as the terminal shows them, with the control sequences for colours
 */
export async function recordSession(): Promise<string[][]> {
  using folder = tempFolder();
  const at = { cwd: folder.path };
  await Bun.write(folder.file("disk.raw"), pseudoRandom(12 * MiB, 7).toString("hex"));
  await command(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"], at);
  await command(["qemu-img", "convert", "-c", "-O", "qcow2", "disk.qcow2", "broken.qcow2"], at);
  await damage(folder.file("broken.qcow2"));
  // As slow as another disk or another host would be: it goes on when the bar has been seen.
  const zstd = Bun.which("zstd") ?? "zstd";
  const slow = `{ head -c 15M; until [ -e seen ]; do sleep 0.02; done; cat; } | ${quoted(zstd)} "$@"\n`;
  const bin = binFolder(folder.file("bin"), { zstd: slow });
  const opened = (line: string) => {
    const script = [`PATH=${quoted(bin)}:$PATH`, `printf '$ %s\\n' ${quoted(line)}`, line];
    return new Terminal(script.join("\n"), folder.path, COLUMNS, ROWS);
  };
  const recorded = async (line: string, until: (rows: string[]) => boolean) => {
    using terminal = opened(line);
    await terminal.showing(until, `the end of ${line}`);
    return terminal.coloured.trimEnd().split("\n");
  };
  using streaming = opened(STREAM);
  await streaming.showing((rows) => /^ *[6-9]\d%/.test(rows.at(-1) ?? ""), "the bar");
  const bar = streaming.coloured.trimEnd().split("\n").at(-1) as string;
  await Bun.write(folder.file("seen"), "");
  await streaming.showing((rows) => rows.some((row) => row.endsWith("complete")), "the end");
  const [first = "", ...rest] = streaming.coloured.trimEnd().split("\n");
  return [
    // The end comes in the place of the bar.
    [first, bar, ...rest],
    await recorded(TRUNCATED, (rows) => rows.includes("1")),
    await recorded(CHECK, (rows) => rows.some((row) => row.startsWith("nbd-streaming run"))),
  ];
}

/** Compressed clusters that are none: reading them fails (EIO). */
async function damage(path: string): Promise<void> {
  const bytes = Buffer.from(await Bun.file(path).arrayBuffer());
  bytes.fill(0, Math.floor(bytes.length * 0.75), Math.floor(bytes.length * 0.85));
  await Bun.write(path, bytes);
}

/** Where the picture of it is. */
export const PICTURE = join(import.meta.dir, "../docs/session.svg");
