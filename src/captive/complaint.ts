/** What qemu-img(1) says when it cannot open an image, and what to do about it. */
import type { Words } from "../messages/notice.ts";

/** What the user knows of an image, and the name in the cause. */
interface Named {
  readonly image: string;
  /** The format that the user has named. */
  readonly format: string | undefined;
  /** Of the protocol, the module or the format. */
  readonly name: string | undefined;
}

/** What the user can do, by the cause; undefined where qemu-img's words say all there is. */
const REMEDIES = {
  /** Another process has it open, by qemu's file locks. */
  locked: () =>
    "end the program that uses it first, or see docs/live-vm.md if that is a running machine",
  missing: () => "check its name",
  forbidden: () => "run this as a user who may read it",
  /** A folder, or something else in which one cannot seek. */
  "no-file": () => "name a file or a block device",
  /** A Unix socket, or a device without a driver. */
  socket: ({ image }) => `if an NBD server listens there, write nbd+unix:///?socket=${image}`,
  /** The text before the first colon names no protocol of qemu-img. */
  protocol: ({ image }) => `if it is a file, write ./${image}`,
  /** The driver of a protocol or format is not installed. */
  module: ({ image, name }) =>
    "install qemu's driver for it, the package qemu-block-extra (Debian, Ubuntu) or " +
    `qemu-block-${name} (Fedora)${image.includes("://") ? "" : `; if it is a file, write ./${image}`}`,
  /** No format has this name. */
  format: () => "qemu-img --help lists the formats that it has",
  /** It has another format than the named one. */
  "other-format": ({ format }) =>
    format === undefined ? undefined : { code: "HINT_FORMAT", format },
  /** Its server does not answer, or has no such export. */
  server: () => "see that its server is there, and has it",
  unknown: () => undefined,
} satisfies Record<string, (named: Named) => Words | undefined>;

/** Why an image could not be opened. */
export interface Cause {
  readonly kind: keyof typeof REMEDIES;
  readonly name?: string;
}

/** @returns undefined where qemu-img's words say all there is */
export function remedyForCause(
  { kind, name }: Cause,
  named: Pick<Named, "image" | "format">,
): Words | undefined {
  return REMEDIES[kind]({ ...named, name });
}

/**
 * Protocols whose drivers distributions have in packages of their own. Without it, old releases of
 * qemu-img do not know the protocol's name.
 */
const MODULES: Readonly<Record<string, string>> = {
  http: "curl",
  https: "curl",
  ftp: "curl",
  ftps: "curl",
  ssh: "ssh",
  rbd: "rbd",
  iscsi: "iscsi",
  iser: "iscsi",
  nfs: "nfs",
  gluster: "gluster",
};

/**
 * The reasons that qemu 5.2 to 10.0 write behind the image's name; a group is the name of a protocol or
 * format. All match from the start: a name inside may contain any words.
 */
const REASONS: readonly (readonly [RegExp, Cause["kind"]])[] = [
  [/^Failed to get (?:shared )?"[^"]+" lock$/, "locked"],
  [/^(?:No such file or directory|Not a directory)$/, "missing"],
  [/^Permission denied$/, "forbidden"],
  [/^Is a directory$/, "no-file"],
  [/^'file' driver requires '.*' to be a regular file$/s, "no-file"],
  [/^A regular file was expected by the 'file' driver/, "no-file"],
  [/^No such device or address$/, "socket"],
  [/^Unknown protocol '([^']*)'$/, "protocol"],
  [/^Unknown driver '([^']*)'$/, "format"],
  [/^Image (?:is )?not in \S+ format/, "other-format"],
  [/^Volume is not in LUKS format$/, "other-format"],
  [/^invalid (?:VPC image|VMDK image descriptor)$/i, "other-format"],
  [/^Failed to connect to '/, "server"],
  [/^CURL: Error opening file: /, "server"],
  [/^address resolution failed for /, "server"],
  [/^Requested export not available$/, "server"],
];

/** What qemu-img says of a module that it has not found, before it goes on without. */
const MODULE_MISSING =
  /^(?:qemu: module block-(?:block-)?(\S+) not found|.*Unable to load module (\S+)\.)/;

/**
 * Reads what qemu-img has written to standard error.
 *
 * @param image what it was told to open
 */
export function causeOf(complaint: string, image: string): Cause {
  // The image's name may look like anything, so it is taken out first.
  const opening = `Could not open '${image}': `;
  const at = complaint.indexOf(opening);
  if (at < 0) return { kind: "unknown" };
  for (const line of complaint.slice(0, at).split("\n")) {
    const [, old, recent] = MODULE_MISSING.exec(line) ?? [];
    const name = old ?? recent;
    if (name !== undefined) return { kind: "module", name };
  }
  const reason = innermost(complaint.slice(at + opening.length));
  for (const [form, kind] of REASONS) {
    const found = form.exec(reason);
    if (found === null) continue;
    const [, name] = found;
    if (name === undefined) return { kind };
    const module = MODULES[name.replace(/\+.*/, "")];
    return module === undefined ? { kind, name } : { kind: "module", name: module };
  }
  return { kind: "unknown" };
}

/** The reason without the names of the files opened for the image, and without further lines. */
function innermost(text: string): string {
  const words = text.trimEnd();
  // Up to the last quote that can end a name: in no reason of the system does a colon follow one.
  const [, rest] = /^Could not open '.*': (.*)$/s.exec(words) ?? [];
  const [first = ""] = (rest ?? words).split("\n");
  return first;
}
