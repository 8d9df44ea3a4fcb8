/** Folders of certificates that cannot be used. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Authority, type Certificates, makeCertificates } from "../support/certificates.ts";
import { LIMIT } from "../support/limit.ts";
import { tempFolder } from "../support/temp.ts";
import { Place } from "./refusal.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
let pki: Certificates;
beforeAll(() => {
  pki = makeCertificates(folder.path);
});
afterAll(() => folder[Symbol.dispose]());

type Damage = (path: (name: string) => string) => void;
const put = (name: string, contents: string): Damage => {
  return (path) => writeFileSync(path(name), contents);
};
const remove = (name: string): Damage => {
  return (path) => rmSync(path(name));
};

const GARBAGE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

const CASES: [string, Damage, RegExp][] = [
  ["no certificate", remove("server-cert.pem"), /^cannot read pki\/server-cert\.pem: ENOENT/],
  ["no key", remove("server-key.pem"), /^cannot read pki\/server-key\.pem: ENOENT/],
  ["no authority", remove("ca-cert.pem"), /^cannot read pki\/ca-cert\.pem: ENOENT/],
  [
    "a folder for a key",
    (path) => {
      rmSync(path("server-key.pem"));
      mkdirSync(path("server-key.pem"));
    },
    /^cannot read pki\/server-key\.pem: EISDIR/,
  ],
  [
    "the key of another certificate",
    put("server-key.pem", new Authority().identity("other").key),
    /^the certificates in pki cannot be used .*server-key\.pem belong together/,
  ],
  [
    "an empty certificate",
    put("server-cert.pem", ""),
    /^pki\/server-cert\.pem .*: it is not in PEM/,
  ],
  ["a certificate that is none", put("server-cert.pem", "x\n"), /^pki\/server-cert\.pem cannot be/],
  ["an empty key", put("server-key.pem", ""), /^pki\/server-key\.pem cannot be used/],
  [
    "an authority without a byte, which would be all of the system's",
    put("ca-cert.pem", ""),
    /^pki\/ca-cert\.pem cannot be used/,
  ],
  ["an authority that is none", put("ca-cert.pem", "x\n"), /^pki\/ca-cert\.pem cannot be used/],
  [
    "a certificate of garbage",
    put("server-cert.pem", GARBAGE),
    /^the certificates in pki cannot be/,
  ],
  ["an authority of garbage", put("ca-cert.pem", GARBAGE), /^the certificates in pki cannot be/],
];

test.each(CASES)("certificates with %s cannot be used", async (_, damage, message) => {
  using place = new Place();
  cpSync(pki.all, place.file("pki"), { recursive: true });
  damage((name) => join(place.file("pki"), name));
  const args = ["--tls=require", "--tls-certificates=pki", "--tls-verify-peer"];
  const line = await place.refusal(["serve", "pipe=fifo", "-U", "socket", ...args], 3);
  expect(line).toMatch(message);
});

test("certificates in a folder that does not exist cannot be used", async () => {
  using place = new Place();
  const args = ["--tls=on", "--tls-certificates=nowhere"];
  const line = await place.refusal(["run", "pipe=fifo", ...args, "--", "true"], 3);
  expect(line).toMatch(/^cannot read nowhere\/server-cert\.pem: ENOENT.*--tls-certificates=DIR/);
});
