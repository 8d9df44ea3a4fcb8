/** The program as a package has it: a bundle for each thread, with its bytecode in a file beside it. */
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..");

/**
 * Makes `program.js` and `stream.worker.js`, which need nothing of node_modules. Bun ignores bytecode of
 * another version of its JavaScript engine, and bytecode that is damaged.
 *
 * @param folder is made if it is missing
 * @param commit what `--version` names
 */
export async function makeBundles(folder: string, commit: string): Promise<void> {
  await Bun.build({
    entrypoints: ["packaging/program.ts", "src/stream.worker.ts"].map((file) => join(ROOT, file)),
    outdir: folder,
    naming: "[name].[ext]",
    target: "bun",
    // Outside of a compiled binary, only CommonJS has bytecode.
    format: "cjs",
    bytecode: true,
    minify: true,
    define: {
      NBD_STREAMING_COMMIT: JSON.stringify(commit),
      // Would be this machine's path. The program is told where its worker is.
      "import.meta.url": JSON.stringify("file:///"),
    },
  });
}
