/** What is printed of the whole command line. */
import { bashCompletions } from "../manual/bash.ts";
import { fishCompletions } from "../manual/fish.ts";
import type { Outline } from "../manual/outline.ts";
import { manPage } from "../manual/page.ts";
import { zshCompletions } from "../manual/zsh.ts";
import { PROSE } from "./prose.ts";

/** The completions for each shell. */
export const COMPLETIONS = {
  bash: bashCompletions,
  zsh: zshCompletions,
  fish: fishCompletions,
};

export function manual(outline: Outline): string {
  return manPage(outline, PROSE);
}
