/**
 * Services that tests do not have, each as a script of sh(1): it refuses any words but those that the
 * documents have, and does in the working directory what the service would.
 */
import { quoted } from "../shell.ts";
import { SIZE } from "./masters.ts";

/** What a script answers to which words. */
export function service(answers: Readonly<Record<string, string>>): string {
  const cases = Object.entries(answers).map(([words, lines]) => `${quoted(words)})\n${lines};;\n`);
  return `case "$*" in\n${cases.join("")}*) echo "stand-in: what is $0 $*?" >&2; exit 97;;\nesac\n`;
}

/** An upload: the object is there when all of it is, and not before. */
const upload = (object: string) => `mkdir -p bucket && cat > .upload && mv .upload ${object}\n`;

/** As {@link upload}, for a service that was told the size. */
const sized = (object: string) =>
  `mkdir -p bucket && cat > .upload && [ "$(stat -c %s .upload)" = ${SIZE} ] && mv .upload ${object}\n`;

export const AWS = service({
  [`s3 cp - s3://bucket/disk.raw --expected-size ${SIZE}`]: sized("bucket/disk.raw"),
  "s3 cp s3://bucket/disk.raw -": "cat bucket/disk.raw\n",
});

/** An upload of what has a size of its own, which was told. */
export const AWS_SIZED = `
[ "\${*% *}" = "s3 cp - s3://bucket/disk.qcow2 --expected-size" ] && [ $# = 6 ] || exit 97
mkdir -p bucket && cat > .upload && [ "$(stat -c %s .upload)" = "$6" ] && mv .upload bucket/disk.qcow2
`;

export const GCLOUD = service({ "storage cp - gs://bucket/disk.raw": upload("bucket/disk.raw") });

export const RCLONE = service({
  [`rcat --size ${SIZE} remote:bucket/disk.raw`]: sized("bucket/disk.raw"),
});

/** An import that is killed leaves what there is of the image. */
export const RBD = service({
  "import --no-progress - pool/disk": "mkdir -p pool && cat > pool/disk\n",
  "export --no-progress pool/disk -": "cat pool/disk\n",
});

/** A snapshot is made only if the command succeeds. */
export const RESTIC = service({
  "backup --stdin-filename disk.raw --stdin-from-command -- nbd-streaming run pipe=- disk.qcow2": `
shift 5
"$@" > .snapshot || { echo "Fatal: unable to save snapshot: $1 failed" >&2; exit 1; }
mv .snapshot snapshot
`,
  "dump latest disk.raw": "cat snapshot\n",
});

/**
 * `ssh host COMMAND`: a shell here is the other host. A port that it was to listen on there is
 * replaced in the command by ours, where it would lead: a fixed port may be taken.
 */
export const SSH = `
forward=
if [ "$1" = -o ]; then [ "$2 $3" = "ExitOnForwardFailure=yes -R" ] || exit 97; forward=$4; shift 4; fi
[ "$1" = host ] && [ $# -gt 1 ] || { echo "stand-in: what is ssh $*?" >&2; exit 97; }
shift
[ -n "$forward" ] || exec sh -c "$*"
there=\${forward%%:*} here=\${forward#*:}
case $here in 127.0.0.1:[0-9]*);; *) exit 97;; esac
exec sh -c "$(printf '%s' "$*" | sed "s/127\\.0\\.0\\.1:$there/$here/")"
`;

/** npx, which would fetch Bun: it is here already. */
export const NPX = `
[ "$1 $2" = "--yes bun" ] || { echo "stand-in: what is npx $*?" >&2; exit 97; }
shift 2
exec bun "$@"
`;

/** bunx, which would fetch what the library needs; the program needs nothing. */
export const BUNX = `
[ "$1" = --package ] && [ "$3 $4" = "nbd-streaming --help" ] || exit 97
mkdir unpacked && tar -xzf "$2" -C unpacked || exit
exec bun unpacked/package/bin/nbd-streaming.js --help
`;

/** systemctl: it notes what it is told. */
export const SYSTEMCTL = service({
  "edit nbd-streaming.service": "echo edit >> told\n",
  "daemon-reload": "echo reload >> told\n",
  "enable --now nbd-streaming.socket": "echo enable >> told\n",
  "enable --now nbd-streaming@web1.socket": "echo enable web1 >> told\n",
});
