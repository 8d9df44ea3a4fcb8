import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  captiveVariables,
  captiveWords,
  commandOf,
  requireHeld,
  spoolsOf,
} from "../../src/captive/command.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const VARIABLES = {
  nbd: "nbd+unix:///?socket=/run/x",
  uri: "nbd+unix:///?socket=/run/x",
  unixsocket: "/run/x",
  port: "10809",
  exportname: "disk",
  tls: "off",
};

describe("captiveVariables", () => {
  test("of a Unix socket have its path and no port", () => {
    expect(captiveVariables({ kind: "unix", path: "/run/my disk/x" }, [{ name: "a/b" }])).toEqual({
      nbd: "nbd+unix:///a%2Fb?socket=/run/my%20disk/x",
      uri: "nbd+unix:///a%2Fb?socket=/run/my%20disk/x",
      unixsocket: "/run/my disk/x",
      port: "",
      exportname: "a/b",
      tls: "off",
    });
  });

  const at = { kind: "unix", path: "/run/x" } as const;

  test("have one for the only export, too, if a variable can have its name", () => {
    const uri = "nbd+unix:///vda?socket=/run/x";
    expect(captiveVariables(at, [{ name: "vda" }])).toMatchObject({
      uri,
      uri_vda: uri,
      nbd_vda: uri,
    });
    const keys = Object.keys(captiveVariables(at, [{ name: "disk 1" }]));
    expect(keys.filter((key) => key.includes("_"))).toEqual([]);
  });

  test("have one for each of several exports, and name the server", () => {
    expect(captiveVariables(at, [{ name: "vda" }, { name: "disk 1" }, { name: "vdb" }])).toEqual({
      nbd: "nbd+unix:///?socket=/run/x",
      uri: "nbd+unix:///?socket=/run/x",
      nbd_vda: "nbd+unix:///vda?socket=/run/x",
      uri_vda: "nbd+unix:///vda?socket=/run/x",
      nbd_vdb: "nbd+unix:///vdb?socket=/run/x",
      uri_vdb: "nbd+unix:///vdb?socket=/run/x",
      unixsocket: "/run/x",
      port: "",
      exportname: "",
      tls: "off",
    });
  });

  test("have the path of a disk as a file only where there is one", () => {
    const one = captiveVariables(at, [{ name: "vda", spool: "/proc/1/fd/7" }]);
    expect(one).toMatchObject({ spool: "/proc/1/fd/7", spool_vda: "/proc/1/fd/7" });
    expect(captiveVariables(at, [{ name: "", spool: "/proc/1/fd/7" }])).toMatchObject({
      spool: "/proc/1/fd/7",
    });
    expect(Object.keys(captiveVariables(at, [{ name: "vda" }]))).not.toContain("spool");
    const two = captiveVariables(at, [{ name: "vda", spool: "/proc/1/fd/7" }, { name: "vdb" }]);
    const spools = Object.entries(two).filter(([name]) => name.startsWith("spool"));
    expect(spools).toEqual([["spool_vda", "/proc/1/fd/7"]]);
  });

  test("of a TCP port have the port and no path", () => {
    expect(
      captiveVariables({ kind: "tcp", host: "127.0.0.1", port: 4711 }, [{ name: "" }]),
    ).toEqual({
      nbd: "nbd://127.0.0.1:4711/",
      uri: "nbd://127.0.0.1:4711/",
      unixsocket: "",
      port: "4711",
      exportname: "",
      tls: "off",
    });
  });
});

describe("the disk as a file", () => {
  test.each<[string | string[], string[]]>([
    [["cp", "a", "$spool"], ["spool"]],
    [["cp", "a", "--to=${spool}"], ["spool"]],
    [
      ["cp", "$spool_a", "$spool_b", "$spool_a"],
      ["spool_a", "spool_b"],
    ],
    ['cp a "$spool"', ["spool"]],
    [["sh", "-c", "cp a $spool"], ["spool"]],
    [["cp", "a", "$nbd"], []],
    [["cp", "a", "$spooled"], []],
    ["spool=x; cp a $spool", []],
    ["export spool=x && cp a $spool", []],
    ["for spool in a b; do cp a $spool; done", []],
    ["read -r spool < x; cp a $spool", []],
    [["sh", "-c", "spool=x; cp a $spool"], []],
    ["cp a ${spool:-b}", []],
  ])("%j wants %j", (command, names) => {
    expect(spoolsOf(command)).toEqual(names);
  });

  const why = (
    command: string | string[],
    ...streams: { exportName?: string; hold?: boolean }[]
  ) => {
    try {
      requireHeld(command, streams);
      return undefined;
    } catch (error) {
      return (error as { notice: { code: string } }).notice.code;
    }
  };
  const WORDS = ["cp", "a", "$spool"];
  const OWN = ["cp", "a", "$spool_a"];

  test("is there if the stream is held", () => {
    expect(why(WORDS, { hold: true })).toBeUndefined();
    expect(why(WORDS, { hold: true, exportName: "a" })).toBeUndefined();
    expect(why(OWN, { hold: true, exportName: "a" })).toBeUndefined();
    expect(why(OWN, { hold: true, exportName: "a" }, { exportName: "b" })).toBeUndefined();
    expect(why(["cp", "a", "$nbd"], {})).toBeUndefined();
  });

  test("is not there if the stream is not held", () => {
    expect(why(WORDS, {})).toBe("SPOOL_NOT_HELD");
    expect(why(OWN, { exportName: "a" }, { exportName: "b", hold: true })).toBe("SPOOL_NOT_HELD");
  });

  test("has to be named among several", () => {
    const both = [
      { hold: true, exportName: "a" },
      { hold: true, exportName: "b" },
    ];
    expect(why(WORDS, ...both)).toBe("SPOOL_OF_SEVERAL");
    expect(why(["cp", "a", "$spool_c"], ...both)).toBe("SPOOL_OF_NONE");
    // It may come from elsewhere.
    expect(why("cp a $spool_c", ...both)).toBeUndefined();
  });
});

test("one word on a command line is a line for the shell, several are words", () => {
  expect(commandOf(["qemu-img info $nbd"])).toBe("qemu-img info $nbd");
  expect(commandOf(["qemu-img", "info"])).toEqual(["qemu-img", "info"]);
});

describe("a command line", () => {
  test("is the shell's, as it is", () => {
    expect(captiveWords('qemu-img info "$nbd" | cat', VARIABLES)).toEqual([
      "/bin/sh",
      "-c",
      'qemu-img info "$nbd" | cat',
    ]);
  });

  test("finds the variables in the environment of the shell", async () => {
    const value = 'it\'s a "disk"; $port $(exit 7)';
    const shell = Bun.spawn({
      cmd: captiveWords('printf %s "$exportname"', VARIABLES),
      env: { ...process.env, ...VARIABLES, exportname: value, tls: "off" },
    });
    expect(await new Response(shell.stdout).text()).toBe(value);
  });
});

describe("words", () => {
  /** What becomes of one of several words. */
  const replaced = (word: string, variables = VARIABLES) =>
    captiveWords(["command", word], variables)[1] as string;

  test("are executed as they are, without a shell", () => {
    expect(captiveWords(["cp", "a b", "*", "$HOME", "$(id)", ""], VARIABLES)).toEqual([
      "cp",
      "a b",
      "*",
      "$HOME",
      "$(id)",
      "",
    ]);
  });

  test.each([
    ["$nbd", VARIABLES.nbd],
    ["$uri", VARIABLES.uri],
    ["$unixsocket", "/run/x"],
    ["$port", "10809"],
    ["$exportname", "disk"],
    ["${nbd}", VARIABLES.nbd],
    ["${port}", "10809"],
    ["--to=$port,$port", "--to=10809,10809"],
    ["${port}0", "108090"],
    ["$port.raw", "10809.raw"],
    ["$port-$exportname/${exportname}x", "10809-disk/diskx"],
    ["$$port", "$10809"],
  ])("have %p replaced by %p", (word, result) => {
    expect(replaced(word)).toBe(result);
  });

  test("have the name of the command replaced as well", () => {
    expect(captiveWords(["/opt/$exportname", "x"], VARIABLES)).toEqual(["/opt/disk", "x"]);
  });

  test("have $uri replaced as often as it occurs", () => {
    expect(captiveWords(["cat", "$uri $uri", "$uri"], VARIABLES)).toEqual([
      "cat",
      `${VARIABLES.uri} ${VARIABLES.uri}`,
      VARIABLES.uri,
    ]);
  });

  test.each([
    "$nbdx",
    "$nbd_1",
    "$ports",
    "$Port",
    "$NBD",
    "${nbd",
    "${ nbd }",
    "${nbdx}",
    "$ nbd",
    "nbd",
    "$",
    "${}",
  ])("keep %p", (word) => {
    expect(replaced(word)).toBe(word);
  });

  test("do not have a value replaced again", () => {
    const variables = { ...VARIABLES, exportname: "$port ${nbd} $& $1 $$ $`", tls: "off" };
    expect(replaced("<$exportname>", variables)).toBe("<$port ${nbd} $& $1 $$ $`>");
  });

  test("have a name without a value replaced by nothing", () => {
    expect(replaced("<$unixsocket>", { ...VARIABLES, unixsocket: "" })).toBe("<>");
  });
});
