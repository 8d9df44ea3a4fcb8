/** What docs/library.md has for a shell; its programs are tried in test/e2e/library.test.ts. */
import { expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { documentedBlock } from "../documented.ts";
import { linkPackage } from "../linked.ts";
import { withImage } from "./masters.ts";
import type { Scene } from "./stage.ts";

const PAGE = "docs/library.md";

export const LIBRARY: readonly Scene[] = [
  {
    document: PAGE,
    block: "bun build --compile",
    title: "makes one file of a program, and that streams",
    before(stage) {
      withImage(stage);
      linkPackage(stage.cwd);
      writeFileSync(stage.file("app.ts"), documentedBlock(PAGE, "workerUrl });").text);
    },
    after: (stage, { stdout }) => expect(stdout).toEndWith(`${stage.masters.sha256}  -\n`),
  },
];
