/** The software bill of materials of a binary and of the npm package's bundles, in CycloneDX. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VERSION } from "../files/about.ts";
import { type Commit, run } from "./commit.ts";

export const BILL = `nbd-streaming-${VERSION}.cdx.json`;

/** What is changed here of <https://cyclonedx.org/docs/1.6/json/>. */
interface Bill {
  metadata: { timestamp?: string; component: { "bom-ref": string; properties?: Property[] } };
  components: unknown[];
  dependencies: { ref: string; dependsOn?: string[] }[];
}

interface Property {
  readonly name: string;
  readonly value: string;
}

/**
 * Writes the bill. What it lists is what the bundler has put in, not what is installed here; and Bun, of
 * which the bundler does not know that the binary contains it.
 */
export function makeBill(path: string, commit: Commit): void {
  const folder = mkdtempSync(join(tmpdir(), "nbd-streaming-bill-"));
  try {
    const graph = join(folder, "graph.json");
    const entries = ["src/main.ts", "src/stream.worker.ts"];
    run([
      ...[process.execPath, "build", "--target=bun", `--metafile=${graph}`],
      ...["--outdir", join(folder, "out"), ...entries],
    ]);
    const listed = join(folder, "listed.json");
    const tool = "node_modules/@cyclonedx/cyclonedx-esbuild/bin/cyclonedx-esbuild-cli.js";
    run([process.execPath, tool, "--output-reproducible", "-o", listed, graph]);
    const bill = JSON.parse(readFileSync(listed, "utf8")) as Bill;
    writeFileSync(path, `${JSON.stringify(completed(bill, commit), null, 2)}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function completed(bill: Bill, { name, time }: Commit): Bill {
  const purl = `pkg:npm/bun@${Bun.version}`;
  const { component } = bill.metadata;
  bill.metadata.timestamp = new Date(time * 1000).toISOString();
  component.properties = [...(component.properties ?? []), { name: "commit", value: name }];
  bill.components.push({
    ...{ type: "platform", name: "bun", version: Bun.version, "bom-ref": purl, purl },
    description: "JavaScript runtime that the binary contains",
    licenses: [{ license: { id: "MIT" } }, { license: { id: "LGPL-2.0-or-later" } }],
  });
  const own = bill.dependencies.find(({ ref }) => ref === component["bom-ref"]);
  if (own === undefined) throw new Error("the bill does not say what the program depends on");
  own.dependsOn = [...(own.dependsOn ?? []), purl];
  bill.dependencies.push({ ref: purl });
  return bill;
}
