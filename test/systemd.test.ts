import { expect, test } from "bun:test";
import { activatedSocket, requireSocket } from "../src/systemd.ts";
import { socketpair } from "../ffi/socket.ts";
import { close } from "../ffi/fd.ts";
import { thrownBy } from "./ffi/descriptors.ts";

const pid = String(process.pid);

test.each<[string, NodeJS.ProcessEnv]>([
  ["nothing", {}],
  ["LISTEN_PID alone", { LISTEN_PID: pid }],
  ["LISTEN_FDS alone", { LISTEN_FDS: "1" }],
  ["another process's id", { LISTEN_PID: "1", LISTEN_FDS: "1" }],
  ["no id", { LISTEN_PID: "", LISTEN_FDS: "1" }],
  ["a longer id", { LISTEN_PID: `${pid}0`, LISTEN_FDS: "2", LISTEN_FDNAMES: "a:b" }],
])("%s is not for this process, and stays as it is", (_, variables) => {
  const environment = { ...variables, OTHER: "x" };
  expect(activatedSocket(environment)).toBeUndefined();
  expect(environment).toEqual({ ...variables, OTHER: "x" });
});

test.each(["0", "2", "-1", "01", "1 ", "one", ""])("LISTEN_FDS=%p is not one socket", (count) => {
  const environment: NodeJS.ProcessEnv = {
    LISTEN_PID: pid,
    LISTEN_FDS: count,
    LISTEN_FDNAMES: "x",
    OTHER: "x",
  };
  expect(thrownBy(() => activatedSocket(environment))).toMatchObject({
    code: "ERR_LISTEN",
    exitStatus: 3,
    message: expect.stringContaining(`LISTEN_FDS=${count}: one socket is listened on`),
  });
  expect(environment).toEqual({ OTHER: "x" });
});

test("only a socket is one", () => {
  const [one, other] = socketpair();
  requireSocket(one, "it");
  close(one);
  close(other);
  for (const fd of [-1, 99_999]) {
    expect(thrownBy(() => requireSocket(fd, "it"))).toMatchObject({
      code: "ERR_LISTEN",
      message: "it is no socket: start the program by what passes one",
    });
  }
});
