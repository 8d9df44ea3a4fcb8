/** A program with a bar that ends in a way that nobody has provided for: its argument says which. */
import { ProgressDisplay } from "../../src/progress/display.ts";
import { Watch } from "../../src/progress/watch.ts";
import { Counters } from "../../src/stream/counters.ts";

const progress = new ProgressDisplay({
  display: "bar",
  interval: 1000,
  colour: true,
  percentFd: undefined,
});
const stream = {
  direction: "write",
  length: 1000n,
  counters: new Counters(),
  elapsed: 0,
  phase: undefined,
  phaseElapsed: 0,
  stage: "deserted",
  opened: true,
} as const;
const watch = new Watch(stream, 0);
progress.begin({ total: () => watch.look(performance.now() / 1000) });
setTimeout(() => {
  if (process.argv[2] === "exit") process.exit(3);
  if (process.argv[2] === "throw") throw new Error("boom");
  progress.end(true);
  // Nothing is left that would keep the program alive.
}, 1000);
