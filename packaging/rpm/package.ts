/** A package for Fedora, RHEL, openSUSE and others, made by rpmbuild(8). */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import {
  DESCRIPTION,
  type Machine,
  MACHINES,
  MAINTAINER,
  REVISION,
  SUMMARY,
  VERSION,
} from "../files/about.ts";
import { licencesOfBinary } from "../files/licences.ts";
import { DOC, type PackagedFile, stage, systemFiles } from "../files/system.ts";
import { type Commit, ROOT, run } from "../release/commit.ts";

const LICENCES = "usr/share/licenses/nbd-streaming";

export function rpmName(machine: Machine): string {
  return `nbd-streaming-${VERSION}-${REVISION}.${MACHINES[machine].rpm}.rpm`;
}

/** Those whose values would come from this machine or from now, and what changes a program that is done. */
const MACROS = {
  _buildhost: "localhost",
  use_source_date_epoch_as_buildtime: "1",
  clamp_mtime_to_source_date_epoch: "1",
  _build_id_links: "none",
  debug_package: "%{nil}",
  // strip(1) does not know the section in which Bun's program has the JavaScript.
  __os_install_post: "%{nil}",
  // One thread, so that the bytes are always the same.
  _binary_payload: "w9.zstdio",
};

/** @param path of the package @param binary the program */
export function makeRpm(path: string, binary: string, machine: Machine, commit: Commit): void {
  const folder = mkdtempSync(join(tmpdir(), "nbd-streaming-rpm-"));
  try {
    const root = join(folder, "root");
    mkdirSync(root);
    const files = [
      ...systemFiles(binary, { zsh: "usr/share/zsh/site-functions" }),
      ...licences(),
      { path: `${DOC}/CHANGELOG.md`, data: readFileSync(join(ROOT, "CHANGELOG.md")) },
    ];
    stage(root, files, commit.time);
    const spec = join(folder, "nbd-streaming.spec");
    writeFileSync(spec, specOf(files, root, commit));
    const macros = Object.entries({ ...MACROS, _topdir: folder, _tmppath: folder });
    const target = `${MACHINES[machine].rpm}-linux`;
    run(
      [
        ...["rpmbuild", "-bb", "--quiet", `--target=${target}`],
        ...macros.flatMap(([name, value]) => ["--define", `${name} ${value}`]),
        spec,
      ],
      // The user's own macros (~/.rpmmacros) have no part in it.
      { env: { SOURCE_DATE_EPOCH: String(commit.time), LC_ALL: "C", HOME: folder } },
    );
    copyFileSync(join(folder, "RPMS", MACHINES[machine].rpm, rpmName(machine)), path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function licences(): PackagedFile[] {
  return [
    { path: `${LICENCES}/LICENSE`, data: readFileSync(join(ROOT, "LICENSE")) },
    { path: `${LICENCES}/third-party.txt`, data: licencesOfBinary() },
  ];
}

function specOf(files: readonly PackagedFile[], root: string, { name, time }: Commit): string {
  const [weekday, day, month, year] = new Date(time * 1000).toUTCString().split(/,? /);
  return `Name: nbd-streaming
Version: ${VERSION}
Release: ${REVISION}
Summary: ${SUMMARY}
# Of Bun, too, which the program contains.
License: MIT AND LGPL-2.0-or-later
Group: Applications/System
Packager: ${MAINTAINER}
Recommends: qemu-img
Recommends: libnbd
Suggests: zstd

%description
${DESCRIPTION.join("\n")}

%install
cp -a "${root}/." "%{buildroot}"

%post
${script("reload")}
%preun
[ $1 -eq 0 ] || exit 0
${script("removal")}
%postun
${script("reload")}
%files
%defattr(-,root,root)
${listed(files)}
%changelog
* ${weekday} ${month} ${day} ${year} ${MAINTAINER} - ${VERSION}-${REVISION}
- Version ${VERSION}, of commit ${name}: CHANGELOG.md has what is new.
`;
}

/** Of shells, which may not be there: who has a folder, too, does not lose it with this package. */
const SHARED = ["bash-completion/completions", "zsh/site-functions", "fish/vendor_completions.d"];

/** The folders that are the package's own go with it. */
function listed(files: readonly PackagedFile[]): string {
  const own = [DOC, LICENCES];
  const kind = (path: string) => {
    if (path.startsWith(DOC) || path.includes("/man/")) return "%doc ";
    return path.startsWith(LICENCES) ? "%license " : "";
  };
  const others = files.filter(({ path }) => !own.some((folder) => path.startsWith(`${folder}/`)));
  const shared = SHARED.flatMap((path) => [dirname(path), path]);
  return [
    ...shared.map((path) => `%dir "/usr/share/${path}"\n`),
    ...[...own, ...others.map(({ path }) => path)].map((path) => `${kind(path)}"/${path}"\n`),
  ].join("");
}

function script(file: string): string {
  return readFileSync(join(import.meta.dir, `../files/${file}.sh`), "utf8");
}
