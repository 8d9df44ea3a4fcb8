/**
 * Certificates for tests: an authority, and folders with the names that nbdkit, qemu and libnbd use.
 * They are made here (X.509 in DER, RFC 5280), so that no other program is needed.
 */
import {
  createHash,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign as signBytes,
} from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const DAY = 86_400_000;

/** A certificate and its key, in PEM. */
export interface Identity {
  readonly certificate: string;
  readonly key: string;
}

/** Signs what it is asked to. */
export class Authority {
  readonly #keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  readonly #name: string;
  /** Its own certificate, in PEM. */
  readonly certificate: string;

  constructor(name = "The tests' authority") {
    this.#name = name;
    this.certificate = this.#sign(name, this.#keys.publicKey, [
      // basicConstraints, critical: an authority.
      extension("2.5.29.19", sequence(BOOLEAN_TRUE), true),
      // keyUsage, critical: keyCertSign.
      extension("2.5.29.15", tag(0x03, Buffer.from([2, 0x04])), true),
    ]);
  }

  /** @param name whose it is: a server's is valid for `localhost` and 127.0.0.1, whatever the name */
  identity(name: string): Identity {
    const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    // subjectAltName: dNSName and iPAddress.
    const names = [tag(0x82, Buffer.from("localhost")), tag(0x87, Buffer.from([127, 0, 0, 1]))];
    const certificate = this.#sign(name, publicKey, [extension("2.5.29.17", sequence(...names))]);
    return { certificate, key: privateKey.export({ type: "pkcs8", format: "pem" }) as string };
  }

  #sign(name: string, key: KeyObject, extensions: readonly Buffer[]): string {
    const algorithm = sequence(objectId("1.2.840.10045.4.3.2"));
    const spki = key.export({ type: "spki", format: "der" });
    const keyId = createHash("sha1").update(spki).digest();
    // A version 3 certificate.
    const body = sequence(
      tag(0xa0, tag(0x02, Buffer.from([2]))),
      tag(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
      algorithm,
      commonName(this.#name),
      sequence(time(Date.now() - DAY), time(Date.now() + 30 * DAY)),
      commonName(name),
      spki,
      tag(0xa3, sequence(...extensions, extension("2.5.29.14", tag(0x04, keyId)))),
    );
    const signature = signBytes("sha256", body, this.#keys.privateKey);
    const der = sequence(body, algorithm, tag(0x03, Buffer.concat([Buffer.from([0]), signature])));
    const lines = der.toString("base64").replace(/.{64}(?=.)/g, "$&\n");
    return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
  }
}

/** Folders of certificates. */
export interface Certificates {
  readonly authority: Authority;
  /** `ca-cert.pem`, and server's and client's certificate and key. */
  readonly all: string;
  /** `ca-cert.pem` only: a client that has no certificate. */
  readonly anonymous: string;
  /** A client with the certificate of another authority, which knows the server's. */
  readonly stranger: string;
}

/** Makes them below `folder`. */
export function makeCertificates(folder: string): Certificates {
  const authority = new Authority();
  const { certificate } = authority;
  const [all, anonymous, stranger] = ["all", "anonymous", "stranger"].map((name) => {
    const path = join(folder, name);
    mkdirSync(path);
    writeFileSync(join(path, "ca-cert.pem"), certificate);
    return path;
  }) as [string, string, string];
  writeIdentity(all, "server", authority.identity("server"));
  writeIdentity(all, "client", authority.identity("client"));
  writeIdentity(stranger, "client", new Authority("Another authority").identity("client"));
  return { authority, all, anonymous, stranger };
}

/** Writes `WHO-cert.pem` and `WHO-key.pem`. */
function writeIdentity(folder: string, who: string, { certificate, key }: Identity): void {
  writeFileSync(join(folder, `${who}-cert.pem`), certificate);
  writeFileSync(join(folder, `${who}-key.pem`), key, { mode: 0o600 });
}

const BOOLEAN_TRUE = tag(0x01, Buffer.from([0xff]));

/** A value in DER: its type, its length, itself. */
function tag(type: number, value: Uint8Array): Buffer {
  const { length } = value;
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([type, ...size]), value]);
}

function sequence(...parts: readonly Uint8Array[]): Buffer {
  return tag(0x30, Buffer.concat(parts));
}

function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = rest.flatMap((arc) => {
    const groups = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    return groups;
  });
  return tag(0x06, Buffer.from([40 * first + second, ...bytes]));
}

function commonName(name: string): Buffer {
  const attribute = sequence(objectId("2.5.4.3"), tag(0x0c, Buffer.from(name)));
  return sequence(tag(0x31, attribute));
}

/** UTCTime. */
function time(milliseconds: number): Buffer {
  const digits = new Date(milliseconds).toISOString().replace(/\D/g, "").slice(2, 14);
  return tag(0x17, Buffer.from(`${digits}Z`));
}

function extension(id: string, value: Uint8Array, critical = false): Buffer {
  return sequence(objectId(id), ...(critical ? [BOOLEAN_TRUE] : []), tag(0x04, value));
}
