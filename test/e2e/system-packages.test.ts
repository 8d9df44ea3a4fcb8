/** The packages for distributions, of a stand-in for the program: `bun run test:packages` has the real one. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import packageJson from "../../package.json" with { type: "json" };
import { debName, GLIBC, makeDeb } from "../../packaging/deb/package.ts";
import type { Machine } from "../../packaging/files/about.ts";
import { makeRpm, rpmName } from "../../packaging/rpm/package.ts";
import { LIMIT } from "../support/limit.ts";
import { command, ROOT } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const NO_DPKG = Bun.which("dpkg-deb") === null;
const NO_RPM = Bun.which("rpmbuild") === null || Bun.which("rpm") === null;

const COMMIT = { name: "0123456789ab", time: 1_700_000_000 };
const binary = folder.file("program");
writeFileSync(binary, `#!/bin/sh\necho nbd-streaming ${packageJson.version}\n`);
chmodSync(binary, 0o700);

const pages = readdirSync(join(ROOT, "docs")).map((name) => `docs/${name}`);
const examples = readdirSync(join(ROOT, "examples")).map((name) => `examples/${name}`);
const units = readdirSync(join(ROOT, "packaging/systemd"));

/** What both kinds install, besides their own files. */
const COMMON = [
  ...["usr/bin/nbd-streaming", "usr/share/man/man1/nbd-streaming.1.gz"],
  "usr/share/bash-completion/completions/nbd-streaming",
  "usr/share/fish/vendor_completions.d/nbd-streaming.fish",
  ...units.map((name) => `usr/lib/systemd/system/${name}`),
  ...["README.md", "SECURITY.md", "packaging/README.md", ...pages, ...examples].map(
    (name) => `usr/share/doc/nbd-streaming/${name}`,
  ),
];

function once(make: () => string): () => string {
  let made: string | undefined;
  return () => (made ??= make());
}

/** The home of somebody who has rpm write other things into packages of his own. */
const home = folder.file("home");
mkdirSync(home);
writeFileSync(join(home, ".rpmmacros"), "%vendor Somebody\n%packager Somebody <x@example.org>\n");

/** Makes a package; of one machine twice, by different masks, in different folders and by different users. */
function packaged(machine: Machine, make: (path: string) => void, name: string): string {
  const names = machine === "linux-x64" ? ["one", "another"] : ["one"];
  const places = names.map((place) => folder.file(place));
  const masks = [0o077, 0o022];
  for (const [index, place] of places.entries()) {
    mkdirSync(place, { recursive: true });
    const mask = process.umask(masks[index] as number);
    const { TMPDIR, HOME } = process.env;
    Object.assign(process.env, { TMPDIR: place, HOME: index === 0 ? place : home });
    try {
      make(join(place, name));
    } finally {
      process.umask(mask);
      for (const [variable, value] of Object.entries({ TMPDIR, HOME })) {
        if (value === undefined) delete process.env[variable];
        else process.env[variable] = value;
      }
    }
    // Nothing is left where it was made.
    expect(readdirSync(place)).toContain(name);
    expect(readdirSync(place).filter((other) => !/\.(deb|rpm)$/.test(other))).toEqual([]);
  }
  const [one, other = one] = places.map((place) => readFileSync(join(place, name)));
  expect(one?.equals(other as Buffer)).toBe(true);
  return join(places[0] as string, name);
}

test("no unit has its state below that of another, which systemd makes a link with DynamicUser=", () => {
  const states = units
    .map((name) => readFileSync(join(ROOT, "packaging/systemd", name), "utf8"))
    .flatMap((unit) => unit.match(/^StateDirectory=.*$/gm) ?? [])
    .map((line) => line.replace("StateDirectory=", ""));
  expect(states.length).toBe(2);
  for (const one of states) {
    expect(states.filter((other) => `${other}/`.startsWith(`${one}/`))).toEqual([one]);
  }
});

describe.skipIf(NO_DPKG).each(["linux-x64", "linux-arm64"] as const)(
  "the .deb of %s",
  (machine: Machine) => {
    const field = (path: string, name: string) => command(["dpkg-deb", "-f", path, name]);
    const built = once(() =>
      packaged(machine, (path) => makeDeb(path, binary, machine, COMMIT), debName(machine)),
    );

    test("is the same, whoever makes it, and has every file with root as its owner", async () => {
      const path = built();
      const listed = (await command(["dpkg-deb", "-c", path])).trim().split("\n");
      const files = listed.filter((line) => line.startsWith("-"));
      const own = [
        ...["changelog.Debian.gz", "changelog.gz", "copyright"].map(
          (name) => `usr/share/doc/nbd-streaming/${name}`,
        ),
        "usr/share/lintian/overrides/nbd-streaming",
        "usr/share/zsh/vendor-completions/_nbd-streaming",
      ];
      expect(files.map((line) => line.split(" ./")[1] as string).toSorted()).toEqual(
        [...COMMON, ...own].toSorted(),
      );
      for (const line of listed) {
        expect(line).toMatch(/^(drwxr-xr-x|-rw-r--r--|-rwxr-xr-x) root\/root .* 2023-11-14 /);
      }
      expect(files.filter((line) => line.startsWith("-rwx"))).toEqual([
        expect.stringContaining("./usr/bin/nbd-streaming"),
      ]);
    });

    test("has what its pages for users link to", async () => {
      const root = folder.file(`pages of ${machine}`);
      await command(["dpkg-deb", "-x", built(), root]);
      const docs = join(root, "usr/share/doc/nbd-streaming/docs");
      // The index has those for developers, too, and figures are of the project.
      const missing = readdirSync(docs)
        .filter((page) => page.endsWith(".md") && page !== "README.md")
        .flatMap((page) =>
          [...readFileSync(join(docs, page), "utf8").matchAll(/\]\(([^):#]+)[^):]*\)/g)].map(
            ([, link]) => link as string,
          ),
        )
        .filter((link) => !link.startsWith("../bench/") && !existsSync(join(docs, link)));
      // It is for those who have the files of a release beside it.
      expect(missing).toEqual(["../packaging/container/Containerfile"]);
    });

    test("says what it is, and what it needs", async () => {
      const path = built();
      expect(await field(path, "Version")).toBe(`${packageJson.version}-1\n`);
      const expected = machine === "linux-x64" ? "amd64" : "arm64";
      expect(await field(path, "Architecture")).toBe(`${expected}\n`);
      expect(await field(path, "Recommends")).toBe("qemu-utils, libnbd-bin\n");
      expect(await field(path, "Depends")).toBe(`libc6 (>= ${GLIBC})\n`);
    });

    test("starts by its units what it installs, and has the licences of what is in it", async () => {
      const root = folder.file(`root of ${machine}`);
      await command(["dpkg-deb", "-x", built(), root]);
      for (const name of units.filter((unit) => unit.endsWith(".service"))) {
        const unit = readFileSync(join(root, "usr/lib/systemd/system", name), "utf8");
        expect(unit).toContain("ExecStart=/usr/bin/nbd-streaming serve");
        expect(unit).not.toContain("/usr/local");
      }
      const doc = join(root, "usr/share/doc/nbd-streaming");
      const copyright = readFileSync(join(doc, "copyright"), "utf8");
      for (const part of [
        "MIT License",
        ...Object.keys(packageJson.dependencies),
        "JavaScriptCore",
      ]) {
        expect(copyright).toContain(part);
      }
      const changelog = gunzipSync(readFileSync(join(doc, "changelog.Debian.gz"))).toString();
      expect(changelog).toContain(`of commit ${COMMIT.name}:`);
    });
  },
);

describe.skipIf(NO_RPM).each(["linux-x64", "linux-arm64"] as const)(
  "the .rpm of %s",
  (machine: Machine) => {
    const built = once(() =>
      packaged(machine, (path) => makeRpm(path, binary, machine, COMMIT), rpmName(machine)),
    );
    const queried = async (path: string, ...words: string[]) =>
      (await command(["rpm", "-qp", ...words, path])).trim().split("\n");

    test("is the same, whoever makes it, and has every file with root as its owner", async () => {
      const path = built();
      const lines = await queried(
        path,
        "--qf",
        "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}\n]",
      );
      const files = lines.filter((line) => !line.includes(" drwx"));
      expect(files.map((line) => line.slice(1, line.indexOf(" "))).toSorted()).toEqual(
        [
          ...COMMON,
          ...["LICENSE", "third-party.txt"].map(
            (name) => `usr/share/licenses/nbd-streaming/${name}`,
          ),
          "usr/share/doc/nbd-streaming/CHANGELOG.md",
          "usr/share/zsh/site-functions/_nbd-streaming",
        ].toSorted(),
      );
      for (const line of lines) {
        expect(line).toMatch(/ (drwxr-xr-x|-rw-r--r--|-rwxr-xr-x) root$/);
      }
    });

    test("says what it is, and what is good to have", async () => {
      const path = built();
      const format = "%{VERSION}-%{RELEASE} %{ARCH} %{BUILDHOST} %{BUILDTIME}\n";
      const expected = machine === "linux-x64" ? "x86_64" : "aarch64";
      expect(await queried(path, "--qf", format)).toEqual([
        `${packageJson.version}-1 ${expected} localhost ${COMMIT.time}`,
      ]);
      expect((await queried(path, "--recommends")).toSorted()).toEqual(["libnbd", "qemu-img"]);
    });
  },
);

test.skipIf(
  !(process.report.getReport() as { header: { glibcVersionRuntime?: string } }).header
    .glibcVersionRuntime,
)("Bun needs no newer glibc than the .deb says", () => {
  const program = readFileSync(process.execPath).toString("latin1");
  const versions = [...program.matchAll(/\0GLIBC_(2\.\d+)(?=\0)/g)].map(
    ([, version]) => version as string,
  );
  expect(versions.toSorted((a, b) => Bun.semver.order(`${b}.0`, `${a}.0`))[0]).toBe(GLIBC);
});
