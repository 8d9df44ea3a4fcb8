#!/bin/bash
# Installs what `bun run release` has made in bare systems of their own, does the main job there, and removes
# it. As root, on Debian, with a mirror to be reached. ROOTS=FOLDER keeps the bare systems for the next time;
# words such as trixie:arm64 try only these.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=$PWD/dist
version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' package.json)

[ "$(id -u)" -eq 0 ] || { echo "packages: only root can install them" >&2; exit 1; }
for tool in debootstrap lintian rpmlint rpm rpm2cpio cpio file gcc; do
  command -v $tool >/dev/null || { echo "packages: there is no $tool" >&2; exit 1; }
done
(cd "$dist" && sha256sum --quiet --strict -c SHA256SUMS)

place=$(mktemp -d "${TMPDIR:-/var/tmp}/nbd-streaming-packages-XXXXXX")
roots=${ROOTS:-$place/roots}
mkdir -p "$roots"
mounted=
finish() {
  for mount in $mounted; do umount -l "$mount" || :; done
  rm -rf --one-file-system "$place"
}
trap finish EXIT

say() { printf '%s: %s\n' "$1" "$2"; }
fail() { say "$1" "$2" >&2; exit 1; }

# A system of its own, with nothing but what the main job needs from others.
system() { # SUITE MACHINE
  local bare=$roots/$1-$2 root=$place/$1-$2
  if [ ! -e "$bare.done" ]; then
    rm -rf --one-file-system "$bare"
    debootstrap --variant=minbase --arch="$2" "$1" "$bare" >"$place/log" 2>&1 || { tail "$place/log"; return 1; }
    # debootstrap goes on if it cannot unmount it.
    ! mountpoint -q "$bare/proc" || umount -l "$bare/proc"
    touch "$bare.done"
  fi
  # Only its own files: a copy of /proc would have all of the memory in it.
  cp -ax "$bare" "$root"
  for mount in proc dev; do
    mounted="$root/$mount $mounted"
    mount --bind /$mount "$root/$mount"
  done
  # A service that a package brings is not to be started.
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
}

inside() { # ROOT COMMAND…
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot "$@"
}

# All that there is, but for what the package manager writes down.
files() { # ROOT
  (cd "$1" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./tmp -o -path ./var/lib/dpkg \
    -o -path ./var/lib/apt -o -path ./var/cache -o -path ./var/log -o -path ./var/lib/rpm \) -prune -o -print) | sort
}

# A qcow2 goes through the program into a command, and the command gets every byte.
main_job() { # ROOT
  inside "$1" sh -eu <<'JOB'
cd /tmp
head -c 16M /dev/urandom >disk.raw
qemu-img convert -q -O qcow2 disk.raw disk.qcow2
nbd-streaming run pipe=exec:'sha256sum >digest' disk.qcow2
[ "$(cat digest)" = "$(sha256sum <disk.raw)" ]
nbd-streaming check >said || { cat said; exit 1; }
nbd-streaming completions bash | cmp - /usr/share/bash-completion/completions/nbd-streaming
rm disk.raw disk.qcow2 digest said
JOB
}

# shellcheck disable=SC2016 # the backquotes are the page's
commit=$(sed -n 's/.*from commit `\([0-9a-f]*\)`.*/\1/p' "$dist/RELEASE.md")
names_commit() { # ROOT
  local said
  said=$(inside "$1" nbd-streaming --version)
  [ "$said" = "nbd-streaming $version (commit $commit)" ] || fail "$1" "names another commit: $said"
}

debian() { # SUITE MACHINE
  local name="$1 $2" root=$place/$1-$2
  system "$1" "$2"
  inside "$root" apt-get -qq update >/dev/null
  cp "$dist/nbd-streaming_$version-1_$2.deb" "$root/tmp/package.deb"
  local recommended
  recommended=$(inside "$root" apt-get -s install /tmp/package.deb)
  for other in qemu-utils libnbd-bin; do
    grep -q "^Inst $other " <<<"$recommended" || fail "$name" "does not bring $other"
  done
  inside "$root" apt-get -qq install --no-install-recommends qemu-utils libnbd-bin >/dev/null 2>&1
  files "$root" >"$place/before"
  inside "$root" apt-get -qq install /tmp/package.deb >"$place/log" 2>&1 || { cat "$place/log"; return 1; }
  names_commit "$root"
  main_job "$root"
  inside "$root" apt-get -qq purge nbd-streaming >/dev/null 2>&1
  rm "$root/tmp/package.deb"
  files "$root" | diff "$place/before" - || fail "$name" "leaves something behind"
  say "$name" "installed, streamed a qcow2, removed"
}

# There is no system with rpm among Debian's packages: rpm itself installs it in a system without its own.
rpm_package() { # SUITE, which has been used for the .deb, RPM'S MACHINE, DEBIAN'S MACHINE
  local name="rpm $2" root=$place/$1-$3
  local package=$dist/nbd-streaming-$version-1.$2.rpm
  # Every system with rpm has this folder.
  mkdir -p "$root/usr/share/licenses"
  files "$root" >"$place/before"
  # What it needs is there, but rpm does not know.
  local rpm=(rpm --root "$root" --dbpath /var/lib/rpm --nodeps)
  "${rpm[@]}" --ignorearch -i "$package" 2>"$place/log" || { cat "$place/log"; return 1; }
  names_commit "$root"
  main_job "$root"
  "${rpm[@]}" -e nbd-streaming 2>"$place/log" || { cat "$place/log"; return 1; }
  files "$root" | diff "$place/before" - || fail "$name" "leaves something behind"
  mkdir "$place/$2"
  (cd "$place/$2" && rpm2cpio "$package" | cpio -idm --quiet)
  local binary=nbd-streaming-linux-x64
  [ "$2" = x86_64 ] || binary=nbd-streaming-linux-arm64
  cmp "$place/$2/usr/bin/nbd-streaming" "$dist/$binary"
  say "$name" "installed by rpm in $1, streamed a qcow2, removed"
}

# With Debian's musl. Its libstdc++ is glibc's, so what that takes from glibc comes from here.
musl() {
  local loader=/lib/ld-musl-x86_64.so.1
  [ -e $loader ] || { say musl "not run: there is no $loader (Debian's package musl)"; return; }
  local libraries=$place/musl
  mkdir "$libraries"
  cp -L /usr/lib/x86_64-linux-gnu/lib{stdc++.so.6,gcc_s.so.1} "$libraries"
  gcc -shared -fPIC -nostdlib -O1 -Wl,-soname,ld-linux-x86-64.so.2 \
    -o "$libraries/ld-linux-x86-64.so.2" test/support/glibc-for-musl.c
  LD_LIBRARY_PATH=$libraries "$dist/nbd-streaming-linux-x64-musl" check >"$place/log" || { cat "$place/log"; return 1; }
  grep -q 'C library  *musl' "$place/log" || fail musl "runs with another C library"
  say musl "check is well with $loader"
}

lint() {
  for package in "$dist"/*.deb; do
    TMPDIR=$place lintian --allow-root --fail-on error --tag-display-limit 0 --display-level error "$package"
  done
  rpmlint -c packaging/rpm/rpmlint.toml "$dist"/*.rpm >"$place/log" || { cat "$place/log"; return 1; }
  say "lintian, rpmlint" "no errors"
}

# SUITE:MACHINE, to try only some.
systems=${*:-bookworm:amd64 trixie:amd64 trixie:arm64}
lint
musl
for system in $systems; do
  suite=${system%:*} machine=${system#*:}
  debian "$suite" "$machine"
  case $machine in
    amd64) rpm_package "$suite" x86_64 amd64 ;;
    arm64) rpm_package "$suite" aarch64 arm64 ;;
  esac
done
