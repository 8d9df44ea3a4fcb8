#!/usr/bin/env bun
// @bun says that there is nothing to transpile, which saves half a millisecond.
// A package has the program as bundles that start faster (packaging/bundle.ts), a checkout only its
// sources.
const BUNDLES = `${import.meta.dir}/../bundles`;

function bundled() {
  try {
    return import.meta.require(`${BUNDLES}/program.js`);
  } catch (error) {
    if (error.code === "MODULE_NOT_FOUND") return undefined;
    throw error;
  }
}

const program = bundled();
if (program === undefined) {
  await import("../src/main.ts");
} else {
  const worker = Bun.pathToFileURL(`${BUNDLES}/stream.worker.js`);
  // Bun collects garbage once this file has been run to its end, which would take several milliseconds.
  process.exit(await program.main(process.argv.slice(2), worker));
}
