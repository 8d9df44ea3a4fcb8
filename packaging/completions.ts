/** The completions, as the program prints them. */
import { join } from "node:path";

const MAIN = join(import.meta.dir, "../src/main.ts");

/** The file's name for each shell: the one under which the shell finds it. */
export const COMPLETIONS = {
  bash: "nbd-streaming",
  zsh: "_nbd-streaming",
  fish: "nbd-streaming.fish",
} as const;

/** @throws Error if the program fails */
export function completions(shell: keyof typeof COMPLETIONS): Buffer {
  const { success, stdout } = Bun.spawnSync({
    cmd: [process.execPath, MAIN, "completions", shell],
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (!success) throw new Error(`nbd-streaming completions ${shell} failed`);
  return stdout;
}
