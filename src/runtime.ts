/** The version of Bun. */
import packageJson from "../package.json" with { type: "json" };
import { UserError } from "./errors.ts";

/** The supported versions, from package.json. */
const WANTED_BUN = packageJson.engines.bun;

export function isBunRecent(version: string): boolean {
  return Bun.semver.satisfies(version, WANTED_BUN);
}

/**
 * Refuses a Bun that is too old: with some older versions, clients wait for a reply for ever.
 *
 * @throws UserError ERR_BUN
 */
export function requireRecentBun(version: string): void {
  if (isBunRecent(version)) return;
  throw new UserError(
    "ERR_BUN",
    `Bun ${version} is too old: ${WANTED_BUN} is needed; bun upgrade, or npm install -g bun`,
  );
}
