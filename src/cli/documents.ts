/** What is printed of the whole command line. */
import { bashCompletions } from "../reference/bash.ts";
import { fishCompletions } from "../reference/fish.ts";
import type { Outline } from "../reference/outline.ts";
import { manPage } from "../reference/man-page.ts";
import { zshCompletions } from "../reference/zsh.ts";
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
