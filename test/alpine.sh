#!/bin/sh
# Tries the program on Alpine, as root in a container with the checkout as its folder: from source and as a
# binary. $BUN is the version of Bun.
set -eu
apk add --no-cache git libstdc++ nodejs npm qemu-img >/dev/null
npm install -g "bun@${BUN:-latest}" >/dev/null
# The checkout is another user's.
git config --global --add safe.directory "$PWD"

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
bun install --frozen-lockfile
bun packaging/build.ts --outfile "$place/nbd-streaming"

head -c 16M /dev/urandom >"$place/disk.raw"
qemu-img convert -O qcow2 "$place/disk.raw" "$place/disk.qcow2"
expected=$(sha256sum <"$place/disk.raw")
for program in "bun src/main.ts" "$place/nbd-streaming"; do
  $program --version
  $program check
  got=$($program run pipe=- "$place/disk.qcow2" | sha256sum)
  [ "$got" = "$expected" ] || { echo "alpine: $program has streamed another disk" >&2; exit 1; }
done
bun test test/stream test/protocol test/handshake test/endpoint test/cli test/ffi test/process
