import { expect, setDefaultTimeout, test } from "bun:test";
import { Listener } from "../../src/server/listener.ts";
import { LIMIT } from "../support/limit.ts";
import { eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

/** Connects while this process does nothing else, and stays until it is told to go. */
function connectMeanwhile(path: string): void {
  const script = `require("node:net").connect(${JSON.stringify(path)}, () => process.exit())`;
  const { exitCode } = Bun.spawnSync([process.execPath, "-e", script]);
  expect(exitCode).toBe(0);
}

test("somebody who is connected and was not accepted yet is waiting", async () => {
  using folder = tempFolder();
  const path = folder.file("socket");
  let accepted = 0;
  const listener = new Listener({ kind: "unix", path }, {
    open: () => void accepted++,
    data: () => {},
  } as never);
  try {
    expect(listener.hasWaiting).toBeFalse();
    connectMeanwhile(path);
    expect([listener.hasWaiting, accepted]).toEqual([true, 0]);
    await eventually(() => accepted === 1, "the client to be accepted");
    expect(listener.hasWaiting).toBeFalse();
  } finally {
    listener.close();
  }
});
