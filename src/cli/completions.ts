/** `nbd-streaming completions` and `nbd-streaming man` */
import { defineCommand } from "citty";
import { EXIT, usageError } from "../errors.ts";
import { bashCompletions } from "../manual/bash.ts";
import { fishCompletions } from "../manual/fish.ts";
import type { Outline } from "../manual/outline.ts";
import { manPage } from "../manual/page.ts";
import { zshCompletions } from "../manual/zsh.ts";
import type { CliContext } from "./context.ts";
import { PROSE } from "./prose.ts";

const SHELLS: Record<string, (outline: Outline) => string> = {
  bash: bashCompletions,
  zsh: zshCompletions,
  fish: fishCompletions,
};

export const completionsCommand = defineCommand({
  meta: { name: "completions", description: "Print the completions for a shell" },
  args: {
    shell: {
      type: "positional",
      valueHint: Object.keys(SHELLS).join("|"),
      description: "The shell",
      // Asked for below, with a message of ours.
      required: false,
    },
  },
  run({ args, data }) {
    const [shell, ...more] = args._;
    if (shell === undefined) throw usageError("which shell? there are bash, zsh and fish");
    if (!Object.hasOwn(SHELLS, shell)) {
      throw usageError(`unknown shell ${shell}: there are bash, zsh and fish`);
    }
    return print(more, data as CliContext, SHELLS[shell] as (outline: Outline) => string);
  },
});

export const manCommand = defineCommand({
  meta: { name: "man", description: "Print the manual page, for man -l -" },
  run: ({ args, data }) => print(args._, data as CliContext, (outline) => manPage(outline, PROSE)),
});

/** @param rest words that the command has no use for */
function print(
  rest: readonly string[],
  { captive, outline }: CliContext,
  made: (outline: Outline) => string,
): number {
  const surplus = captive === undefined ? rest[0] : "--";
  if (surplus !== undefined) throw usageError(`unknown argument ${surplus}: see --help`);
  console.log(made(outline()).trimEnd());
  return EXIT.COMPLETE;
}
