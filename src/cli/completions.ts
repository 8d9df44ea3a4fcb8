/** `nbd-streaming completions` and `nbd-streaming man` */
import { defineCommand } from "citty";
import { EXIT, usageError } from "../errors.ts";
import type { Outline } from "../reference/outline.ts";
import type { CliContext } from "./options.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

export const completionsCommand = defineCommand({
  meta: { name: "completions", description: "Print the completions for a shell" },
  args: {
    shell: {
      type: "positional",
      valueHint: SHELLS.join("|"),
      description: "The shell",
      // Checked below, because citty's message is another one.
      required: false,
    },
  },
  run({ args, data }) {
    const [shell, ...more] = args._;
    if (shell === undefined) throw usageError("which shell? there are bash, zsh and fish");
    if (!isShell(shell)) {
      throw usageError(`unknown shell ${shell}: there are bash, zsh and fish`);
    }
    return print(more, data as CliContext, ({ COMPLETIONS }) => COMPLETIONS[shell]);
  },
});

export const manCommand = defineCommand({
  meta: { name: "man", description: "Print the manual page, for man -l -" },
  run: ({ args, data }) => print(args._, data as CliContext, ({ manual }) => manual),
});

function isShell(word: string): word is Shell {
  return (SHELLS as readonly string[]).includes(word);
}

/** @param rest words that the command does not take */
async function print(
  rest: readonly string[],
  { captive, outline }: CliContext,
  choose: (documents: typeof import("./documents.ts")) => (outline: Outline) => string,
): Promise<number> {
  const surplus = captive === undefined ? rest[0] : "--";
  if (surplus !== undefined) throw usageError(`unknown argument ${surplus}: see --help`);
  // Loaded only here, because loading takes time that other commands do not have to spend.
  const made = choose(await import("./documents.ts"));
  console.log(made(await outline()).trimEnd());
  return EXIT.COMPLETE;
}
