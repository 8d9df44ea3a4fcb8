/**
 * The program that the benchmark compares with: nbdkit's streaming plugin, which nbdkit dropped in
 * 1.30. The last release of Debian that carries it is 11.
 */
import { existsSync, lstatSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SUITE = "bullseye";
const PACKAGE = "nbdkit";
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

export interface Peer {
  nbdkit: string;
  /** The folder of nbdkit's plugins. */
  plugins: string;
  /** The folder of nbdkit's filters. */
  filters: string;
  /** The streaming plugin, by its full name, as nbdkit would look for it in the system's folder. */
  plugin: string;
  version: string;
  /** Whether it was built with GnuTLS, and has it here. */
  tls: boolean;
}

/** There is no nbdkit to compare with; the message says why. */
class NoPeerError extends Error {
  override readonly name = "NoPeerError";
}

/**
 * nbdkit of Debian 11, fetched once and kept in a cache folder. Nothing is installed.
 *
 * @throws NoPeerError when it cannot be had here
 */
async function fetchPeer(): Promise<Peer> {
  for (const tool of ["apt-get", "dpkg"]) {
    if (Bun.which(tool) === null) throw new NoPeerError(`there is no ${tool} to fetch it with`);
  }
  const cache = cacheFolder();
  const root = join(cache, "root");
  if (!existsSync(root)) await fetchInto(cache, root);
  return await lookAt(root);
}

/** The same, or nothing and a line on stderr that says why. */
export async function peerOrNothing(): Promise<Peer | undefined> {
  try {
    return await fetchPeer();
  } catch (error) {
    if (!(error instanceof NoPeerError)) throw error;
    console.error(`No nbdkit of Debian 11 to compare with: ${error.message}`);
    return undefined;
  }
}

function cacheFolder(): string {
  const uid = process.getuid?.() ?? 0;
  const base = process.env.XDG_CACHE_HOME || tmpdir();
  const folder = join(base, `nbd-streaming-bench-${uid}`);
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  // What lies in there is executed, and the name is easy to guess.
  const stats = lstatSync(folder);
  if (!stats.isDirectory() || stats.uid !== uid || (stats.mode & 0o022) !== 0) {
    throw new NoPeerError(`the cache folder ${folder} is open to others: remove it`);
  }
  return folder;
}

async function fetchInto(cache: string, root: string): Promise<void> {
  const mirror = await debianMirror();
  for (const folder of ["lists/partial", "archives/partial"]) {
    mkdirSync(join(cache, folder), { recursive: true });
  }
  const signedBy = existsSync(KEYRING) ? `[signed-by=${KEYRING}] ` : "";
  const list = join(cache, "sources.list");
  await Bun.write(list, `deb ${signedBy}${mirror} ${SUITE} main\n`);
  const settings = [
    `Dir::Etc::sourcelist=${list}`,
    "Dir::Etc::sourceparts=-",
    `Dir::State::lists=${join(cache, "lists")}`,
    `Dir::Cache=${cache}`,
    // Or `update` would warn only, and the reason be lost.
    "APT::Update::Error-Mode=any",
  ].flatMap((setting) => ["-o", setting]);
  await output(["apt-get", ...settings, "update"], cache);
  await output(["apt-get", ...settings, "download", `${PACKAGE}/${SUITE}`], cache);

  const [archive] = [...new Bun.Glob(`${PACKAGE}_*.deb`).scanSync({ cwd: cache, absolute: true })];
  if (archive === undefined) throw new NoPeerError("apt-get downloaded nothing");
  // Only a whole folder gets the name that later runs trust.
  const unpacked = join(cache, `root.${process.pid}`);
  try {
    await output(["dpkg", "-x", archive, unpacked], cache);
    await output(["mv", "-T", unpacked, root], cache);
  } finally {
    for (const path of [unpacked, archive, list, join(cache, "lists")]) {
      rmSync(path, { recursive: true, force: true });
    }
  }
}

/** Where this machine gets its own Debian packages from. */
async function debianMirror(): Promise<string> {
  const format = "$(ORIGIN)\t$(CODENAME)\t$(REPO_URI)";
  const targets = await output([
    "apt-get",
    "indextargets",
    "--format",
    format,
    "Created-By: Packages",
  ]);
  for (const line of targets.split("\n")) {
    const [origin, codename, uri] = line.split("\t");
    // Updates and security updates may have a mirror of their own, which lacks the suite itself.
    if (origin === "Debian" && codename && uri && !codename.includes("-")) return uri;
  }
  throw new NoPeerError("apt knows no mirror of Debian (after a first `apt-get update` it may)");
}

async function lookAt(root: string): Promise<Peer> {
  const nbdkit = join(root, "usr/bin/nbdkit");
  const pattern = "usr/lib/*/nbdkit/plugins/nbdkit-streaming-plugin.so";
  const [plugin] = [...new Bun.Glob(pattern).scanSync({ cwd: root, absolute: true })];
  if (plugin === undefined || !existsSync(nbdkit)) {
    throw new NoPeerError(`the package lacks the streaming plugin; remove ${root}`);
  }
  // Also loads the plugin, so a missing library shows here and not as a failed run.
  const dump = await output([nbdkit, plugin, "--dump-plugin"]);
  const version = /^version=(.*)$/m.exec(dump)?.[1] ?? "unknown";
  const tls = /^tls=yes$/m.test(await output([nbdkit, "--dump-config"]));
  const plugins = join(plugin, "..");
  return { nbdkit, plugin, plugins, filters: join(plugins, "../filters"), version, tls };
}

async function output(command: string[], cwd?: string): Promise<string> {
  const child = Bun.spawn(command, {
    ...(cwd === undefined ? {} : { cwd }),
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, LC_ALL: "C" },
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (status !== 0) {
    throw new NoPeerError(`${command.join(" ")} failed (${status}): ${stderr.trim()}`);
  }
  return stdout;
}

/**
 * A script that is started as `nbdkit` is, and finds the plugin and the filters by their short names,
 * which the unpacked package does not.
 */
function makeScript({ nbdkit, plugins, filters }: Peer): string {
  const path = join(cacheFolder(), "nbdkit");
  const text = `#!/bin/sh
for word; do
  shift
  case $word in
    streaming) word='${plugins}'/nbdkit-streaming-plugin.so ;;
    --filter=*) word=--filter='${filters}'/nbdkit-\${word#--filter=}-filter.so ;;
  esac
  set -- "$@" "$word"
done
exec '${nbdkit}' "$@"
`;
  writeFileSync(path, text, { mode: 0o755 });
  return path;
}

// `bun bench/programs/peer.ts`: prints the path of such a script.
if (import.meta.main) {
  const peer = await peerOrNothing();
  if (peer !== undefined) console.log(makeScript(peer));
  process.exitCode = peer === undefined ? 1 : 0;
}
