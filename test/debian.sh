#!/bin/sh
# Installs what the tests need on Debian or Ubuntu, as root or with sudo, and runs them all.
# Called through `bun run test:debian`, so Bun is there already.
set -eu
cd "$(dirname "$0")/.."

missing=
command -v qemu-img >/dev/null && command -v qemu-io >/dev/null || missing="$missing qemu-utils"
command -v nbdcopy >/dev/null || missing="$missing libnbd-bin"
if [ -n "$missing" ]; then
  sudo=
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  $sudo apt-get update -q
  # shellcheck disable=SC2086 # a list of package names
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -q -y --no-install-recommends $missing
fi

bun install --frozen-lockfile
exec bun test "$@"
