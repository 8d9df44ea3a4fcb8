/**
 * An empty program with an empty Worker: what of a start is Bun's own. It ends when the Worker has
 * answered; with `--stay` it says so, and stays.
 */
const worker = new Worker(new URL("./empty.worker.ts", import.meta.url).href);

worker.addEventListener("message", () => {
  if (!process.argv.includes("--stay")) process.exit();
  console.log("the worker has answered");
});

worker.postMessage(0);
