/** What the disks of a machine have: every write of its guest goes to a model, too. */
import { readFileSync } from "node:fs";
import { Machine, type Written } from "./machine.ts";
import { command } from "./program.ts";

/** A machine, and what is on its disks. `using` kills it. */
export class ModelledMachine implements AsyncDisposable {
  private constructor(
    readonly machine: Machine,
    /** What is on each disk now, by its name. */
    readonly models: Readonly<Record<string, Buffer>>,
  ) {}

  /**
   * Starts one with new disks: a name and a size in bytes for each, all of it zeroes.
   *
   * @param more words for QEMU: other devices and monitors
   */
  static async start(
    folder: string,
    sizes: Readonly<Record<string, number>>,
    more: readonly string[] = [],
  ): Promise<ModelledMachine> {
    await Machine.makeDisks(folder, sizes);
    const machine = await Machine.start(folder, Object.keys(sizes), more);
    const models = Object.entries(sizes).map(([name, size]) => [name, Buffer.alloc(size)]);
    return new ModelledMachine(machine, Object.fromEntries(models));
  }

  /** Writes as the guest; a write that fails is not in the model. */
  async write(disk: string, offset: number, length: number, byte: number): Promise<Written> {
    const written = await this.machine.write(disk, offset, length, byte);
    if (!written.failed) this.models[disk]?.fill(byte, offset, offset + length);
    return written;
  }

  /** Ends it in order. @returns the disks whose images are not what was written to them */
  async lost(): Promise<string[]> {
    await this.machine.quit();
    const lost: string[] = [];
    for (const [disk, model] of Object.entries(this.models)) {
      const raw = this.machine.file(`${disk}.own`);
      await command(["qemu-img", "convert", "-O", "raw", this.machine.file(`${disk}.qcow2`), raw]);
      if (!readFileSync(raw).equals(model)) lost.push(disk);
    }
    return lost;
  }

  /** What is on the disks now, to be compared later. */
  instant(): Record<string, Buffer> {
    const copies = Object.entries(this.models).map(([disk, model]) => [disk, Buffer.from(model)]);
    return Object.fromEntries(copies);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.machine[Symbol.asyncDispose]();
  }
}
