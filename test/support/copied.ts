/** Runs a stream that is read, from a file to the image that a client makes of it. */
import { mkfifo } from "../../ffi/pipe.ts";
import { command, type Ended, runProgram } from "./program.ts";
import { digestFile } from "./reader.ts";
import { shell } from "./shell.ts";
import { tempFolder } from "./temp.ts";
import { feedFifo } from "./writer.ts";

/** How the file gets to the program. */
export const FEEDS = ["a FIFO", "standard input"] as const;
export type Feed = (typeof FEEDS)[number];

/** Runs `run read=SOURCE WORDS...` in a folder, to which clients copy. */
export async function copied(
  feed: Feed,
  file: string,
  words: readonly string[],
  cwd: string,
): Promise<Ended> {
  if (feed === "standard input") {
    return await shell('cat "$FILE" | program run read=- "$@"', words, {
      cwd,
      env: { FILE: file },
    });
  }
  using folder = tempFolder();
  const fifo = folder.file("source.fifo");
  mkfifo(fifo, 0o600);
  await using _writer = feedFifo(fifo, file);
  return await runProgram(["run", `read=${fifo}`, ...words], { cwd });
}

/** SHA-256 of the disk in an image, in hex. */
export async function digestDisk(image: string, format: string): Promise<string> {
  if (format === "raw") return await digestFile(image);
  const raw = `${image}.disk`;
  await command(["qemu-img", "convert", "-f", format, "-O", "raw", image, raw]);
  return await digestFile(raw);
}
