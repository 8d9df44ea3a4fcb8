/** What becomes of a stream whose source is a command that fails, early, late, or at the very end. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { DATA, FEW_FORMS, ReadTrial } from "../support/read-trial.ts";
import { ERROR, GATE } from "../support/base-trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const WHOLE = ["size=8M"];
const END = 3 * MiB + 1000;

/** How a command ends badly. */
const ENDS = [
  { how: "exits with a status", words: "exit 3", why: "failed with status 3" },
  { how: "is killed by a signal", words: "kill -9 $$", why: "was killed by SIGKILL" },
];

describe.each(ENDS)("a command that $how", ({ words, why }) => {
  test.each(FEW_FORMS)("in the middle is an error, with $form", async ({ structured, piece }) => {
    const exec = `head -c ${END} data; ${words}`;
    await using trial = await ReadTrial.serve({ exec }, { args: WHOLE });
    using client = await trial.reader(structured);
    const { error, data, message } = await client.readAll(0, 8 * MiB, piece);
    expect(error).toBe(ERROR.EIO);
    expect(data.equals(DATA.subarray(0, END - (END % piece)))).toBeTrue();
    if (structured) expect(message).toContain(`${why}, with the stream at byte ${END}`);
    client.disconnect();
    await trial.fails({
      status: 4,
      message: new RegExp(`truncated: exec:.* ${why}, with the stream at byte ${END}: `),
    });
  });

  test.each(FEW_FORMS)("after all bytes is an error to the last READ, with $form", async (form) => {
    const { structured, piece } = form;
    await using trial = await ReadTrial.serve({ exec: `cat data; ${words}` }, { args: WHOLE });
    using client = await trial.reader(structured);
    const { error, data } = await client.readAll(0, 8 * MiB, piece);
    expect(error).toBe(ERROR.EIO);
    expect(data.equals(DATA.subarray(0, 8 * MiB - piece))).toBeTrue();
    client.disconnect();
    const message = new RegExp(`truncated: exec:.* ${why}, with the stream at byte 8388608: `);
    await trial.fails({ status: 4, message });
  });

  test("in the middle is not made good by --pad", async () => {
    const exec = `head -c ${END} data; ${words}`;
    await using trial = await ReadTrial.serve({ exec }, { args: [...WHOLE, "--pad"] });
    using client = await trial.reader();
    const { error, data } = await client.readAll(0, 8 * MiB, MiB);
    expect([error, data.length]).toEqual([ERROR.EIO, 3 * MiB]);
    client.disconnect();
    await trial.fails({ status: 4, message: new RegExp(`truncated: exec:.* ${why}, `) });
  });

  test("after all bytes, without size=, is an error to whoever wants more", async () => {
    await using trial = await ReadTrial.serve({ exec: `cat data; ${words}` });
    using client = await trial.reader(true);
    expect((await client.readAll(0, 8 * MiB, MiB)).data.equals(DATA)).toBeTrue();
    const { error, message } = await client.read(8 * MiB, 512);
    expect(error).toBe(ERROR.EIO);
    expect(message).toContain(why);
    client.disconnect();
    await trial.fails({ status: 4, message: new RegExp(`truncated: exec:.* ${why}, `) });
  });

  test(
    "after all bytes makes qemu-img and nbdcopy fail",
    async () => {
      const exec = `cat data; ${words}`;
      const copies = [
        ["qemu-img", "convert", "-f", "raw", "-O", "raw", "$nbd", "out"],
        ["nbdcopy", "$uri", "out"],
      ];
      for (const copy of copies) {
        await using trial = await ReadTrial.run({ exec }, copy, { args: WHOLE });
        await trial.fails({ status: 1, message: new RegExp(`truncated: exec:.* ${why}, `) });
      }
    },
    // The program ends soon after its stream has failed, whether its client has heard of it or not.
    IN_TIME,
  );

  test("after all bytes is not hidden by a command that does not care", async () => {
    const line = 'qemu-img convert -f raw -O raw "$nbd" out; exit 0';
    await using trial = await ReadTrial.run({ exec: `cat data; ${words}` }, [line], {
      args: WHOLE,
    });
    await trial.fails({ status: 4, message: new RegExp(`truncated: exec:.* ${why}, `) });
  });
});

test("a command that ends early, but well, has not given all", async () => {
  await using trial = await ReadTrial.serve({ exec: `head -c ${END} data` }, { args: WHOLE });
  using client = await trial.reader();
  expect((await client.readAll(0, 8 * MiB, MiB)).error).toBe(ERROR.EIO);
  client.disconnect();
  await trial.fails({
    status: 4,
    message: new RegExp(`truncated: exec:.* ended at byte ${END} of size=8388608: `),
  });
});

test("a command whose end takes time holds back nothing but the last READ, and no CPU", async () => {
  await using trial = await ReadTrial.serve(
    { exec: `cat data; exec >&-; ${GATE}` },
    { args: WHOLE },
  );
  using client = await trial.reader();
  expect((await client.readAll(0, 7 * MiB, MiB)).error).toBe(0);
  client.ask(7 * MiB, MiB);
  let answered = false;
  const last = client.answer(7 * MiB, MiB).finally(() => {
    answered = true;
  });
  await trial.settled();
  await trial.idles();
  expect(answered).toBeFalse();
  using other = await trial.reader(true);
  expect(await other.blockStatus(0, MiB)).toBe(0);
  other.disconnect();
  trial.openGate();
  expect((await last).data.equals(DATA.subarray(7 * MiB))).toBeTrue();
  client.disconnect();
  await trial.completes(8 * MiB);
});

test("a client that leaves before the command's end is told does not keep it alive", async () => {
  await using trial = await ReadTrial.serve(
    { exec: "cat data; exec >&-; sleep 60" },
    { args: WHOLE },
  );
  using client = await trial.reader();
  expect((await client.readAll(0, 7 * MiB, MiB)).error).toBe(0);
  client.ask(7 * MiB, MiB);
  await trial.settled();
  client.hangUp();
  await trial.fails({ status: 4, message: /truncated: a client left without NBD_CMD_DISC/ });
});

describe("a command of which not all is wanted is ended quietly", () => {
  // What they start when the pipe breaks is to be found, too.
  // What cat says of it, in pieces, would otherwise land in the middle of our own line.
  const loop = "(while :; do cat data 2> /dev/null || sleep 60; done)";
  const rest = `trap '' TERM PIPE; for i in 1 2 3 4 5 6; do ${loop} & done; wait; touch seen`;

  test("when the client leaves early, with --no-pad", async () => {
    await using trial = await ReadTrial.serve(
      { exec: `cat data; ${rest}` },
      { args: ["size=1G", "--no-pad"] },
    );
    using client = await trial.reader();
    expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
    client.disconnect();
    await trial.completes(2 * MiB);
    expect(existsSync(trial.file("seen"))).toBeFalse();
  });

  test("when the client leaves early without it, and that is an error", async () => {
    await using trial = await ReadTrial.serve({ exec: `cat data; ${rest}` }, { args: ["size=1G"] });
    using client = await trial.reader();
    expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
    client.disconnect();
    const message = /truncated: the clients have read up to byte 2097152 of size=1073741824/;
    await trial.fails({ status: 4, message, bytes: 2 * MiB });
  });

  test("when it gives more than size= and does not end", async () => {
    await using trial = await ReadTrial.serve(
      { exec: "cat data; sleep 60" },
      { args: ["size=4M"] },
    );
    using client = await trial.reader();
    expect((await client.readAll(0, 4 * MiB, MiB)).error).toBe(0);
    client.disconnect();
    const { stderr } = await trial.completes(4 * MiB);
    expect(stderr).toMatch(/ has at least [0-9]+ bytes more than size=4194304: is the size right/);
  });
});

test("a command that has cleared its environment is ended all the same", async () => {
  await using trial = await ReadTrial.serve({ exec: "exec env -i sleep 60" }, { args: WHOLE });
  using client = await trial.reader();
  client.ask(0, 512);
  await trial.settled();
  trial.program.process.kill("SIGTERM");
  await trial.fails({ status: 143, message: /truncated: ended by SIGTERM$/, bytes: 0 });
});
