/** The npm package of the checkout, installed as a user would. */
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { copyCheckout } from "../../test/support/checkout.ts";

const CHECKOUT = join(import.meta.dir, "../..");

export interface Installed {
  /** What bunx would execute. */
  program: string;
  /** In which its first line finds Bun. */
  env: Record<string, string | undefined>;
}

/**
 * Packs a copy of the checkout, so that nothing is put into the checkout itself, and installs that
 * package with the versions of its dependencies that the checkout has: from Bun's cache, if they are
 * there.
 */
export async function install(folder: string): Promise<Installed> {
  const [bin, copy, place] = [join(folder, "bin"), join(folder, "copy"), join(folder, "place")];
  for (const path of [bin, place]) mkdirSync(path);
  // The program that runs this may have another name.
  symlinkSync(process.execPath, join(bin, "bun"));
  const env = { ...process.env, PATH: `${bin}:${process.env.PATH}` };
  copyCheckout(copy);
  await run(["bun", "pm", "pack", "--destination", folder], copy, env);
  await Bun.write(join(place, "package.json"), JSON.stringify({ private: true, dependencies }));
  const tarball = join(folder, `${packageJson.name}-${packageJson.version}.tgz`);
  await run(["bun", "add", tarball], place, env);
  return { program: join(place, "node_modules/.bin", packageJson.name), env };
}

const dependencies = Object.fromEntries(
  Object.keys(packageJson.dependencies).map((name) => {
    const manifest = readFileSync(join(CHECKOUT, "node_modules", name, "package.json"), "utf8");
    return [name, (JSON.parse(manifest) as { version: string }).version];
  }),
);

async function run(cmd: string[], cwd: string, env: Installed["env"]): Promise<void> {
  const child = Bun.spawn(cmd, { cwd, env, stdio: ["ignore", "ignore", "pipe"] });
  const [said, status] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  if (status !== 0) throw new Error(`${cmd.join(" ")} has failed: ${said.trim()}`);
}
