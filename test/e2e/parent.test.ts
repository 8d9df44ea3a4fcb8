/** `serve --exit-with-parent`: nothing is left when whoever has started the program is gone. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { LIMIT } from "../support/limit.ts";
import { eventually } from "../support/program.ts";
import { DATA, type SinkChoice, Trial, type TrialOptions } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
/** The shell starts the program and lives on. */
const PARENT = '"$@" & wait';
const sink = { exec: "cat > part; echo committed > done" };

function serve(choice: SinkChoice, args: readonly string[], line = PARENT): Promise<Trial> {
  const options: TrialOptions = { line, args };
  return Trial.serve(choice, options);
}

test("the end of the parent by SIGKILL ends the program and the sink's command", async () => {
  await using trial = await serve(sink, ["--exit-with-parent"]);
  using client = await trial.client();
  expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
  trial.program.process.kill("SIGKILL");
  const { stderr } = await trial.program.ended();
  expect(stderr).toMatch(/truncated: ended by SIGTERM\n$/);
  await trial.leavesNothing();
  expect(existsSync(trial.file("done"))).toBeFalse();
});

test("the good end of the parent does so, too", async () => {
  const line = '"$@" & until [ -e gate ]; do sleep 0.02; done';
  await using trial = await serve(sink, ["--exit-with-parent"], line);
  trial.openGate();
  const { status, stderr } = await trial.program.ended();
  expect(status).toBe(0);
  expect(stderr).toMatch(/truncated: ended by SIGTERM\n$/);
  await trial.leavesNothing();
});

describe("without --exit-with-parent", () => {
  test("the program outlives its parent, and completes the stream", async () => {
    await using trial = await serve(sink, []);
    trial.program.process.kill("SIGKILL");
    await trial.program.process.exited;
    using client = await trial.client();
    expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
    client.disconnect();
    const { stderr } = await trial.program.ended();
    expect(stderr).toMatch(/: complete\n$/);
    await eventually(() => existsSync(trial.file("done")), "the command's end");
    await trial.leavesNothing();
  });
});
