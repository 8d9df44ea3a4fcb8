import { describe, expect, test } from "bun:test";
import { type Address, NBD_PORT, nbdUri } from "../../src/net/address.ts";

const tcp = (host: string, port: number): Address => ({ kind: "tcp", host, port });
const unix = (path: string): Address => ({ kind: "unix", path });

test("the standard port is the one that IANA has assigned", () => {
  expect(NBD_PORT).toBe(10809);
});

describe("the URI of a TCP port", () => {
  test.each([
    ["127.0.0.1", "", "nbd://127.0.0.1:10809/"],
    ["localhost", "disk", "nbd://localhost:10809/disk"],
    ["::1", "", "nbd://[::1]:10809/"],
    ["2001:db8::7", "a", "nbd://[2001:db8::7]:10809/a"],
    ["::ffff:127.0.0.1", "", "nbd://[::ffff:127.0.0.1]:10809/"],
  ])("%s with the name %p is %s", (host, name, uri) => {
    expect(nbdUri(tcp(host, 10809), name)).toBe(uri);
  });
});

describe("the URI of a Unix socket", () => {
  test.each([
    ["/run/nbd.sock", "", "nbd+unix:///?socket=/run/nbd.sock"],
    ["/run/nbd.sock", "disk", "nbd+unix:///disk?socket=/run/nbd.sock"],
    ["nbd.sock", "", "nbd+unix:///?socket=nbd.sock"],
    ["/my disk/a?b#c&d=e", "", "nbd+unix:///?socket=/my%20disk/a%3Fb%23c%26d%3De"],
    ["/50%/ä+b", "", "nbd+unix:///?socket=/50%25/%C3%A4%2Bb"],
  ])("%s with the name %p is %s", (path, name, uri) => {
    expect(nbdUri(unix(path), name)).toBe(uri);
  });
});

describe("the URI of a server that wants TLS", () => {
  test.each([
    [tcp("127.0.0.1", 1), "/pki", "nbds://127.0.0.1:1/?tls-certificates=/pki"],
    [tcp("::1", 1), "/my pki", "nbds://[::1]:1/?tls-certificates=/my%20pki"],
    [unix("/run/s"), "/pki", "nbds+unix:///?socket=/run/s&tls-certificates=/pki"],
    [unix("/a&b"), "/c&d=e?#", "nbds+unix:///?socket=/a%26b&tls-certificates=/c%26d%3De%3F%23"],
  ])("is one with certificates: %#", (address, folder, uri) => {
    expect(nbdUri(address, "", folder)).toBe(uri);
    const url = new URL(nbdUri(address, "a name", folder));
    expect(url.searchParams.get("tls-certificates")).toBe(folder);
    expect(decodeURIComponent(url.pathname)).toBe("/a name");
  });
});

test.each(["a b", "a/b", "a?b", "a#b", "100%", "größe", "/", "..", "a&b=c", "$nbd"])(
  "the name %p and a path with it come back from the URI",
  (text) => {
    for (const address of [tcp("::1", 1), unix(`/run/${text}/socket`)]) {
      const url = new URL(nbdUri(address, `x${text}`));
      expect(decodeURIComponent(url.pathname)).toBe(`/x${text}`);
      expect(url.hash).toBe("");
      if (address.kind === "unix") expect(url.searchParams.get("socket")).toBe(address.path);
    }
  },
);
