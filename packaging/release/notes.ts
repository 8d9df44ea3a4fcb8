/** The page of a release, from its template: what is new, what there is, and what was measured. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { VERSION } from "../files/about.ts";
import { type Commit, ROOT, run } from "./commit.ts";
import { BILL } from "./sbom.ts";

export const NOTES = "RELEASE.md";

const read = (name: string) => readFileSync(join(ROOT, name), "utf8");

/** Rows of the benchmark that tell most of it, by their names in bench/results/latest.md. */
const ROWS = ["unix", "tcp", "zero", "checksum", "tiny-compiled", "4k", "read-convert", "tls"];

/** Variables by which GitHub's workflows know where the repository is; `process.env` elsewhere has none. */
type Place = Readonly<Record<string, string | undefined>>;

/** What makes packages; other versions of them may give other bytes. */
const PACKAGERS = ["dpkg-deb", "rpmbuild"];

function versionOf(tool: string): string {
  if (Bun.which(tool) === null) return "(which there is not here)";
  return /\d+\.[\d.]*\d/.exec(run([tool, "--version"]))?.[0] ?? "of an unknown version";
}

/** @param files what the release has */
export function releaseNotes(files: readonly string[], commit: Commit, place: Place = {}): string {
  const { GITHUB_REPOSITORY: repository = "OWNER/NAME" } = place;
  const values: Record<string, string> = {
    CHANGES: changesOf(read("CHANGELOG.md"), VERSION),
    FILES: files.map((name) => `- \`${name}\``).join("\n"),
    COMMIT: commit.name,
    TOOLS: [`Bun ${Bun.version}`, ...PACKAGERS.map((tool) => `${tool} ${versionOf(tool)}`)].join(
      ", ",
    ),
    BILL,
    REPOSITORY: repository,
    FAULTS: tableBelow(read("bench/results/faults.md"), "## Programs"),
    BENCH: rowsOf(tableBelow(read("bench/results/latest.md"), "# Benchmark")),
  };
  const page = read(".github/release.md")
    .replace(/^<!--.*?-->\n\n/s, "")
    .replaceAll(/\{\{([A-Z]+)\}\}/g, (_, name: string) => values[name] ?? `{{${name}}}`);
  if (place.GITHUB_REPOSITORY === undefined) return page;
  // The page of a release is in no folder that the links could start from.
  const base = `${place.GITHUB_SERVER_URL}/${repository}/blob/${place.GITHUB_REF_NAME}`;
  return page.replaceAll(/\]\((?!https:)/g, `](${base}/`);
}

export function makeNotes(path: string, files: readonly string[], commit: Commit): void {
  writeFileSync(path, releaseNotes(files, commit, process.env));
}

/** What the changelog says of a version; before its day, what is not released yet. */
export function changesOf(changelog: string, version: string): string {
  const sections = changelog.split(/^## /m).slice(1);
  const of = (name: string) => {
    const [, ...lines] = (sections.find((one) => one.startsWith(`[${name}]`)) ?? "").split("\n");
    return lines.join("\n").trim();
  };
  return of("Unreleased") || of(version);
}

/** The first table below a heading of a page. @throws Error if there is none */
function tableBelow(page: string, heading: string): string {
  const [, table] = /\n((?:\|.*\n)+)/.exec(page.slice(page.indexOf(`${heading}\n`))) ?? [];
  if (table === undefined) throw new Error(`there is no table below ${heading}`);
  return table.trim();
}

/** The head of a table of the benchmark, and {@link ROWS}. */
function rowsOf(table: string): string {
  const [head, line, ...rows] = table.split("\n");
  return [head, line, ...ROWS.map((name) => rows.find((row) => row.startsWith(`| \`${name}\``)))]
    .filter((row) => row !== undefined)
    .join("\n");
}
