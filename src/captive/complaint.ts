/** What qemu-img(1) says when it cannot open an image, and what to do about it. */
import type { Words } from "../messages/notice.ts";

/** Why an image could not be opened, as far as qemu-img's words tell. */
export type Cause =
  /** Another process has it open, and qemu's file locks say so. */
  | { readonly kind: "locked" }
  /** There is no such file, or no such folder. */
  | { readonly kind: "missing" }
  | { readonly kind: "forbidden" }
  /** It is a folder, or something else in which nobody can seek. */
  | { readonly kind: "no-file" }
  /** A Unix socket, or a device without a driver behind it. */
  | { readonly kind: "socket" }
  /** What stands before the first colon is no protocol that qemu-img has, or has here. */
  | { readonly kind: "protocol"; readonly name: string }
  /** qemu-img knows the protocol, and what it needs for it is not installed. */
  | { readonly kind: "module"; readonly name: string }
  /** No format of this name. */
  | { readonly kind: "format"; readonly name: string }
  /** It has another format than the one that was named. */
  | { readonly kind: "other-format" }
  /** Its server does not answer, or has no such export. */
  | { readonly kind: "server" }
  /** Something else, for which qemu-img's words have to do. */
  | { readonly kind: "unknown" };

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
 * The forms of the reason, as qemu 5.2 to 10.0 write it behind the image's name. All of them are
 * matched from its start: a name in it may contain any words.
 */
const REASONS: readonly (readonly [RegExp, (name: string) => Cause])[] = [
  [/^Failed to get (?:shared )?"[^"]+" lock$/, () => ({ kind: "locked" })],
  [/^No such file or directory$/, () => ({ kind: "missing" })],
  [/^Not a directory$/, () => ({ kind: "missing" })],
  [/^Permission denied$/, () => ({ kind: "forbidden" })],
  [/^Is a directory$/, () => ({ kind: "no-file" })],
  [/^'file' driver requires '.*' to be a regular file$/s, () => ({ kind: "no-file" })],
  [/^A regular file was expected by the 'file' driver/, () => ({ kind: "no-file" })],
  [/^No such device or address$/, () => ({ kind: "socket" })],
  [/^Unknown protocol '([^']*)'$/, (name) => protocol(name)],
  [/^Unknown driver '([^']*)'$/, (name) => driver(name)],
  [/^Image (?:is )?not in \S+ format/, () => ({ kind: "other-format" })],
  [/^Volume is not in LUKS format$/, () => ({ kind: "other-format" })],
  [/^invalid (?:VPC image|VMDK image descriptor)$/i, () => ({ kind: "other-format" })],
  [/^Failed to connect to '/, () => ({ kind: "server" })],
  [/^CURL: Error opening file: /, () => ({ kind: "server" })],
  [/^address resolution failed for /, () => ({ kind: "server" })],
  [/^Requested export not available$/, () => ({ kind: "server" })],
];

function protocol(name: string): Cause {
  const module = MODULES[name.replace(/\+.*/, "")];
  return module === undefined ? { kind: "protocol", name } : { kind: "module", name: module };
}

function driver(name: string): Cause {
  const module = MODULES[name];
  return module === undefined ? { kind: "format", name } : { kind: "module", name: module };
}

/** What qemu-img says of a module that it has looked for in vain, before it goes on without. */
const MODULE_MISSING =
  /^(?:qemu: module block-(?:block-)?(\S+) not found|.*Unable to load module (\S+)\.)/;

/**
 * Reads what qemu-img has written to standard error.
 *
 * @param image what it was told to open
 */
export function causeOf(complaint: string, image: string): Cause {
  // A name may look like anything, so it is taken out where it has to be first of all.
  const opening = `Could not open '${image}': `;
  const at = complaint.indexOf(opening);
  if (at < 0) return { kind: "unknown" };
  for (const line of complaint.slice(0, at).split("\n")) {
    const [, old, recent] = MODULE_MISSING.exec(line) ?? [];
    const name = old ?? recent;
    if (name !== undefined) return { kind: "module", name };
  }
  const reason = innermost(complaint.slice(at + opening.length));
  for (const [form, cause] of REASONS) {
    const found = form.exec(reason);
    if (found !== null) return cause(found[1] ?? "");
  }
  return { kind: "unknown" };
}

/** Without the names of what was opened for it, and without further lines. */
function innermost(text: string): string {
  const words = text.trimEnd();
  // The last quote that can end a name: no reason of the system's has one followed by a colon.
  const [, rest] = /^Could not open '.*': (.*)$/s.exec(words) ?? [];
  const [first = ""] = (rest ?? words).split("\n");
  return first;
}

/** What the user knows of an image, beside qemu-img. */
export interface Named {
  readonly image: string;
  /** The format that was named, if one was. */
  readonly format: string | undefined;
}

/** What to do about it; undefined where qemu-img's words say all there is. */
export function remedyForCause(cause: Cause, { image, format }: Named): Words | undefined {
  switch (cause.kind) {
    case "locked":
      return "end the program that uses it first";
    case "missing":
      return "check its name";
    case "forbidden":
      return "run this as a user who may read it";
    case "no-file":
      return "name a file or a block device";
    case "socket":
      return `if an NBD server listens there, write nbd+unix:///?socket=${image}`;
    case "protocol":
      return `if it is a file, write ./${image}`;
    case "module":
      return (
        "install qemu's driver for it, the package qemu-block-extra (Debian, Ubuntu) or " +
        `qemu-block-${cause.name} (Fedora)${image.includes("://") ? "" : `; if it is a file, write ./${image}`}`
      );
    case "format":
      return "qemu-img --help lists the formats that it has";
    case "other-format":
      return format === undefined ? undefined : { code: "HINT_FORMAT", format };
    case "server":
      return "see that its server is there, and has it";
    case "unknown":
      return undefined;
  }
}
