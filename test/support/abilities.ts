/** What this machine lets tests do; those that need more are skipped. */
import { writeFileSync } from "node:fs";
import { tempFolder } from "./temp.ts";

/** True where a command can have namespaces of its own, and mount file systems there: `unshare -Urm`. */
export function ownMountsWork(): boolean {
  return Bun.spawnSync(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]).success;
}

/** True where losetup(8) can make a loop device, and blockdev(8) is there. */
export function loopDevicesWork(): boolean {
  if (Bun.which("losetup") === null || Bun.which("blockdev") === null) return false;
  using folder = tempFolder();
  const file = folder.file("probe");
  writeFileSync(file, Buffer.alloc(1024 * 1024));
  const { success, stdout } = Bun.spawnSync(["losetup", "--find", "--show", file]);
  if (success) Bun.spawnSync(["losetup", "--detach", stdout.toString().trim()]);
  return success;
}
