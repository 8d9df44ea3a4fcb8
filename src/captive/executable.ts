/** Whether a command can be run at all. */
import { existsSync } from "node:fs";
import { EXIT, UserError } from "../errors.ts";
import { type CaptiveCommand, hasReference } from "./command.ts";

/** Finds out before anything has begun. @throws UserError ERR_COMMAND */
export function requireExecutable(command: CaptiveCommand): void {
  // A shell has words of its own.
  if (typeof command === "string") return;
  const [program = ""] = command;
  if (hasReference(program) || Bun.which(program) !== null) return;
  const missing = !program.includes("/") || !existsSync(program);
  throw notExecutable(program, missing ? undefined : "it may not be executed");
}

/** @param why undefined when there is no such command */
export function notExecutable(program: string, why: string | undefined): UserError {
  return new UserError(
    "ERR_COMMAND",
    why === undefined
      ? `cannot run ${program}: there is no such command; install it or check its name`
      : `cannot run ${program}: ${why}; make it executable (chmod +x)`,
    why === undefined ? EXIT.NOT_FOUND : EXIT.NOT_EXECUTABLE,
  );
}
