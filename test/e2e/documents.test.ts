/** Every command line of the documents does what they say, as it stands there. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Block, blocksOf, documentedBlock, sessionOf } from "../support/documented.ts";
import { qcow2Image } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { ROOT } from "../support/program.ts";
import { ANY_ORDER } from "../support/scenes/any-order.ts";
import { CHECKING } from "../support/scenes/checking.ts";
import { CONTAINERS } from "../support/scenes/containers.ts";
import { EXAMPLES } from "../support/scenes/examples.ts";
import { IMPORTS } from "../support/scenes/imports.ts";
import { INSTALLATION } from "../support/scenes/installation.ts";
import { LIBRARY } from "../support/scenes/library.ts";
import { LIVE_VM } from "../support/scenes/live-vm.ts";
import { makeMasters, type Masters, SIZE } from "../support/scenes/masters.ts";
import { MANY_STREAMS } from "../support/scenes/many-streams.ts";
import { MORE_RECIPES } from "../support/scenes/more-recipes.ts";
import { NETWORK } from "../support/scenes/network.ts";
import { README } from "../support/scenes/readme.ts";
import { RECIPES } from "../support/scenes/recipes.ts";
import { RECONNECTING } from "../support/scenes/reconnecting.ts";
import { adapted, type Scene, Stage } from "../support/scenes/stage.ts";
import { WHOLE_COMMANDS } from "../support/scenes/whole-commands.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const DOCUMENTS = [
  ...["README.md", "SECURITY.md", "packaging/README.md", "examples/README.md"],
  ...readdirSync(join(ROOT, "docs")).map((name) => `docs/${name}`),
];
const SHELLS = ["sh", "zsh", "fish"];
/** Languages of blocks that nobody types, or that others try: `diff` has old lines and new ones. */
const OTHERS = ["", "ts", "json", "ini", "diff", "yaml"];
const SCENES = [
  README,
  RECIPES,
  MORE_RECIPES,
  WHOLE_COMMANDS,
  IMPORTS,
  NETWORK,
  RECONNECTING,
  INSTALLATION,
  CONTAINERS,
  CHECKING,
  LIBRARY,
  MANY_STREAMS,
  ANY_ORDER,
  LIVE_VM,
  EXAMPLES,
].flat();

/** The heading below which docs/command-line.md has the synopsis: forms, no command lines. */
const SYNOPSIS = "Synopsis";

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let masters: Masters;
beforeAll(async () => {
  masters = await makeMasters(folder.path);
});

describe.each(DOCUMENTS)("%s", (document) => {
  const blocks = blocksOf(document);
  const scenes = SCENES.filter((scene) => scene.document === document);

  test("has a scene for each block of a shell, and none for what it does not have", () => {
    const staged = scenes.map((scene) => documentedBlock(document, scene.block).line);
    const lines = blocks.filter(({ language }) => SHELLS.includes(language)).map(at);
    expect([...new Set(staged)].toSorted(ascending)).toEqual(lines);
  });

  test("has no command lines of the program anywhere else", () => {
    const others = blocks.filter(
      (block) =>
        !SHELLS.includes(block.language) && !isSession(block) && !block.headings.includes(SYNOPSIS),
    );
    expect(others.filter(({ language }) => !OTHERS.includes(language))).toEqual([]);
    expect(others.filter(({ text }) => /^\s*nbd-streaming [a-z-]/m.test(text))).toEqual([]);
    // Within a sentence only what is no whole line, or the name of a command.
    const prose = readFileSync(join(ROOT, document), "utf8").replaceAll(/^```[^]*?^```/gm, "");
    const spans = [...prose.matchAll(/`(nbd-streaming [^`]+)`/g)].map(([, span]) => span as string);
    expect(
      spans.filter((span) => !span.includes("…") && !/^nbd-streaming [a-z]+$/.test(span)),
    ).toEqual([]);
  });

  test("has no links that lead nowhere", () => {
    const text = readFileSync(join(ROOT, document), "utf8");
    const links = [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link as string);
    expect(links.filter((link) => !link.startsWith("https://")).filter(leadsNowhere)).toEqual([]);
    function leadsNowhere(link: string): boolean {
      const [path = "", anchor] = link.split("#");
      const file = path === "" ? join(ROOT, document) : join(ROOT, dirname(document), path);
      if (!existsSync(file)) return true;
      return anchor !== undefined && !anchorsOf(readFileSync(file, "utf8")).includes(anchor);
    }
  });

  for (const scene of scenes) {
    const missing = (scene.needs ?? []).filter((tool) => Bun.which(tool) === null);
    const why = missing.length > 0 ? ` (needs ${missing.join(", ")})` : "";
    test.skipIf(missing.length > 0)(`${scene.title}${why}`, () => play(scene));
  }
});

/** Runs a scene's block. */
async function play(scene: Scene): Promise<void> {
  await using stage = new Stage(masters, scene);
  await scene.before?.(stage);
  const block = documentedBlock(scene.document, scene.block);
  const text = adapted(block, scene.replaced?.(stage) ?? []);
  const running = stage.perform(`${text}${scene.then ?? ""}\n`, block.language);
  await scene.during?.(stage, running);
  const ended = await running.ended();
  expect(ended.status, ended.stderr).toBe(scene.status ?? 0);
  await scene.after?.(stage, ended);
}

describe("the session of docs/check.md", () => {
  const sessions = DOCUMENTS.flatMap((document) => blocksOf(document).filter(isSession));

  test("is the only one", () => {
    expect(sessions.length).toBe(1);
    expect(sessionOf(sessions[0] as Block).length).toBe(1);
  });

  test("shows what check prints of a client that is out of order", async () => {
    await using stage = new Stage(masters, { document: "docs/check.md", block: "$ ", title: "" });
    // Full of data: with as many writes at a time as qemu-img has, nearly every run is out of order.
    await qcow2Image(stage.file("disk.qcow2"), SIZE);
    const [{ command, output }] = sessionOf(sessions[0] as Block) as [
      { command: string; output: string },
    ];
    let printed = "";
    for (let tries = 0; tries < 10 && !/warning +order/.test(printed); tries++) {
      printed = await stage.shell(command);
    }
    expect(masked(printed)).toBe(masked(output));
  });
});

/** The anchors that a page's headings have. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, "")
      .replaceAll(" ", "-"),
  );
}

/** Without figures, and one line where there may be several that differ only by them. */
function masked(text: string): string {
  const lines = text.replaceAll(/\d+[MG]?/g, "N").split("\n");
  return lines.filter((line, index) => line === "" || line !== lines[index - 1]).join("\n");
}

function isSession({ text }: Block): boolean {
  return text.startsWith("$ ");
}

function at({ line }: Block): number {
  return line;
}

function ascending(a: number, b: number): number {
  return a - b;
}
