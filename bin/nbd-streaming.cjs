#!/usr/bin/env bun
// A package has the program as bundles that start faster (packaging/bundle.ts), a checkout only its
// sources.
const BUNDLES = `${__dirname}/../bundles`;

function bundled() {
  try {
    return require(`${BUNDLES}/program.js`);
  } catch (error) {
    if (error.code === "MODULE_NOT_FOUND") return undefined;
    throw error;
  }
}

const program = bundled();
if (program === undefined) import("../src/main.ts");
else {
  const worker = Bun.pathToFileURL(`${BUNDLES}/stream.worker.js`);
  program.main(process.argv.slice(2), worker).then(process.exit);
}
