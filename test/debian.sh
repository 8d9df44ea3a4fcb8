#!/bin/sh
# Installs what the tests need on Debian or Ubuntu, as root or with sudo, and runs them all.
# Called through `bun run test:debian`, so Bun is there already.
set -eu
cd "$(dirname "$0")/.."

missing=
command -v qemu-img >/dev/null && command -v qemu-io >/dev/null || missing="$missing qemu-utils"
command -v nbdcopy >/dev/null || missing="$missing libnbd-bin"

# Other testers of NBD servers, and terminals; without one of them, its tests are skipped.
wanted=
command -v nbdsh >/dev/null || wanted="$wanted python3-libnbd"
command -v nbdkit >/dev/null || wanted="$wanted nbdkit"
command -v fio >/dev/null || wanted="$wanted fio"
command -v tmux >/dev/null || wanted="$wanted tmux"
command -v strace >/dev/null || wanted="$wanted strace"
PATH="$PATH:/usr/sbin:/sbin" command -v nbd-client >/dev/null || wanted="$wanted nbd-client"

# What makes the package for other distributions; without it, its tests are skipped.
command -v rpmbuild >/dev/null || wanted="$wanted rpm"

# What shows the man page and uses the completions; without it, their tests are skipped.
for tool in zsh fish; do
  command -v $tool >/dev/null || wanted="$wanted $tool"
done
command -v man >/dev/null || wanted="$wanted man-db"

# What the recipes of README use; without one of them, those with it are skipped.
for tool in zstd openssl curl; do
  command -v $tool >/dev/null || wanted="$wanted $tool"
done
command -v borg >/dev/null || wanted="$wanted borgbackup"
command -v restic >/dev/null || wanted="$wanted restic"

# Running machines whose disks are backed up; without it, their tests are skipped.
command -v qemu-system-x86_64 >/dev/null || wanted="$wanted qemu-system-x86"
command -v python3 >/dev/null || wanted="$wanted python3"

sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
install() {
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -q -y --no-install-recommends "$@"
}

# shellcheck disable=SC2086 # lists of package names
if [ -n "$missing" ]; then
  $sudo apt-get update -q
  install $missing
fi
if [ -n "$wanted" ] && [ "$(id -u)" -eq 0 ]; then
  [ -n "$missing" ] || apt-get update -q || :
  for package in $wanted; do
    install "$package" || echo "$package is not to be had: its tests are skipped"
  done
fi

bun install --frozen-lockfile

# The old nbdkit whose command lines docs/coming-from-nbdkit.md has; without it they are not run.
if [ "$(id -u)" -eq 0 ] && old=$(bun bench/programs/peer.ts); then
  export NBDKIT_WITH_STREAMING="$old"
fi
# .ci/run looks whether they leave something there.
exec env TMPDIR="${TEST_TMPDIR:-${TMPDIR:-/tmp}}" bun run test "$@"
