/**
 * A virtual machine of QEMU that has disks and nothing else. No guest runs in it (`-S`): what a guest would
 * write, qemu-io(1) writes in the monitor, through the disk's own device.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { listeningAt } from "./proc.ts";
import { bounded, command, WAIT_LIMIT } from "./program.ts";
import { Qmp } from "./qmp.ts";

const QEMU = "qemu-system-x86_64";

/** Programs without which there is no machine. */
export const MACHINE_NEEDS = [QEMU, "qemu-img", "stdbuf"] as const;

/** Those that are missing: tests with machines are skipped by their names. */
export const MACHINE_MISSING = MACHINE_NEEDS.filter((tool) => Bun.which(tool) === null);

/** How a write has ended. */
export interface Written {
  /** True if the guest would have got an error. */
  readonly failed: boolean;
  /** For how long the guest would have waited. */
  readonly milliseconds: number;
}

/**
 * A machine whose disks are the images `NAME.qcow2` in a folder. Each is virtio-blk: the block node has the
 * disk's NAME, and the device has the id `NAME-device`. The folder is its working directory, so files and
 * sockets in QMP commands are relative to it. Others have a monitor at `qmp.sock` there. `using` kills it.
 */
export class Machine implements AsyncDisposable {
  /** The end of what `qemu-io` has printed, and nobody has taken. */
  #printed = "";

  private constructor(
    readonly folder: string,
    readonly disks: readonly string[],
    readonly process: Bun.Subprocess<"ignore", "pipe", "pipe">,
    readonly stderr: Promise<string>,
    readonly qmp: Qmp,
  ) {
    void (async () => {
      for await (const chunk of process.stdout.pipeThrough(new TextDecoderStream() as never)) {
        this.#printed += chunk as unknown as string;
      }
    })();
  }

  /** Makes the images: a name and a size in bytes for each, all of it zeroes. */
  static async makeDisks(folder: string, sizes: Readonly<Record<string, number>>): Promise<void> {
    mkdirSync(folder, { recursive: true });
    for (const [name, size] of Object.entries(sizes)) {
      const image = join(folder, `${name}.qcow2`);
      await command(["qemu-img", "create", "-q", "-f", "qcow2", image, String(size)]);
    }
  }

  /**
   * Starts a machine with these disks, and waits until its monitor answers.
   *
   * @param more words for QEMU: other devices and monitors
   */
  static async start(
    folder: string,
    disks: readonly string[],
    more: readonly string[] = [],
  ): Promise<Machine> {
    const monitor = join(folder, "own-qmp.sock");
    const child = Bun.spawn({
      // stdio would keep what qemu-io prints until there is more.
      cmd: [
        ...["stdbuf", "-oL", QEMU, "-S", "-display", "none", "-nodefaults", "-no-user-config"],
        ...["-machine", "q35,accel=tcg", "-m", "8", "-qmp", `unix:${monitor},server=on,wait=off`],
        // A monitor talks with one client at a time: this one is for others.
        ...["-qmp", "unix:qmp.sock,server=on,wait=off"],
        ...disks.flatMap((name) => [
          "-blockdev",
          `driver=qcow2,node-name=${name},file.driver=file,file.filename=${name}.qcow2`,
          "-device",
          `virtio-blk-pci,drive=${name},id=${name}-device`,
        ]),
        ...more,
      ],
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const stderr = new Response(child.stderr).text();
    try {
      await Promise.race([listeningAt(monitor), child.exited]);
      return new Machine(folder, disks, child, stderr, await Qmp.connect(monitor));
    } catch (error) {
      child.kill("SIGKILL");
      throw new Error(`no machine: ${await stderr}`, { cause: error });
    }
  }

  /** A file in its working directory. */
  file(name: string): string {
    return join(this.folder, name);
  }

  /**
   * Writes a pattern of one byte to a disk, as its guest would. The monitor answers meanwhile. One write at
   * a time.
   *
   * @param limit milliseconds after which a wait fails
   */
  async write(
    disk: string,
    offset: number,
    length: number,
    byte: number,
    limit = WAIT_LIMIT,
  ): Promise<Written> {
    if (byte < 0 || byte > 255) throw new RangeError(`${byte} is no byte`);
    const begin = performance.now();
    await this.#io(disk, `aio_write -P ${byte} ${offset} ${length}`);
    const answer = await this.#taken(/^(?:wrote .*|aio_write failed: .*)\n/m, limit);
    return { failed: answer.includes("failed"), milliseconds: performance.now() - begin };
  }

  /** True if all of a part of a disk is this byte, as its guest would read it. */
  async reads(disk: string, offset: number, length: number, byte: number): Promise<boolean> {
    await this.#io(disk, `read -P ${byte} ${offset} ${length}`);
    const verdict = /^(?:Pattern verification failed .*|read failed: .*)\n(?:read .*)?|^read .*\n/m;
    return (await this.#taken(verdict, WAIT_LIMIT)).startsWith("read ");
  }

  /** Waits for a write's data to be in the image's file. */
  async flush(disk: string): Promise<void> {
    await this.#io(disk, "flush");
  }

  /** Ends it in order: its images are then as its guest has written them. */
  async quit(): Promise<void> {
    await this.qmp.execute("quit");
    await bounded(this.process.exited, "the machine to end");
  }

  /** Kills it. */
  async kill(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
  }

  async #io(disk: string, line: string): Promise<void> {
    const device = `/machine/peripheral/${disk}-device/virtio-backend`;
    const refused = await this.qmp.human(`qemu-io -d ${device} "${line}"`);
    if (refused !== "") throw new Error(`qemu-io ${disk} ${line}: ${refused}`);
  }

  /** Takes what has been printed up to the end of a match; waits for it. */
  async #taken(pattern: RegExp, limit: number): Promise<string> {
    const deadline = performance.now() + limit;
    for (;;) {
      const found = pattern.exec(this.#printed);
      if (found !== null) {
        this.#printed = this.#printed.slice(found.index + found[0].length);
        return found[0];
      }
      if (performance.now() > deadline) throw new Error(`qemu-io does not print ${pattern}`);
      if (this.process.exitCode !== null || this.process.signalCode !== null) {
        throw new Error("the machine has ended");
      }
      await Bun.sleep(1);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.qmp[Symbol.dispose]();
    await this.kill();
  }
}
