/** What qemu-img has said of images that it could not open: its standard error, word by word. */

/** One of its complaints. */
export interface Complaint {
  /** The releases that have said so: those of Debian 11, 12 and 13. */
  readonly releases: string;
  /** The cause, and the name in it. */
  readonly cause: string;
  readonly image: string;
  readonly text: string;
}

export const COMPLAINTS: readonly Complaint[] = [
  {
    releases: "5.2, 7.2, 10.0",
    cause: "missing",
    image: "missing.qcow2",
    text: "qemu-img: Could not open 'missing.qcow2': Could not open 'missing.qcow2': No such file or directory\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "missing",
    image: "block-device.img",
    text: "qemu-img: Could not open 'block-device.img': Could not open 'block-device.img': No such file or directory\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "missing",
    image: "my lock Is another process.img",
    text: "qemu-img: Could not open 'my lock Is another process.img': Could not open 'my lock Is another process.img': No such file or directory\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "missing",
    image: "nofolder/x.img",
    text: "qemu-img: Could not open 'nofolder/x.img': Could not open 'nofolder/x.img': No such file or directory\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "missing",
    image: "raw.img/x",
    text: "qemu-img: Could not open 'raw.img/x': Could not open 'raw.img/x': Not a directory\n",
  },
  {
    releases: "5.2",
    cause: "no-file",
    image: "folder",
    text: "qemu-img: Could not open 'folder': A regular file was expected by the 'file' driver, but something else was given\n",
  },
  {
    releases: "7.2, 10.0",
    cause: "no-file",
    image: "folder",
    text: "qemu-img: Could not open 'folder': 'file' driver requires 'folder' to be a regular file\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "forbidden",
    image: "disk.qcow2",
    text: "qemu-img: Could not open 'disk.qcow2': Could not open 'disk.qcow2': Permission denied\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "protocol foo",
    image: "foo:bar.img",
    text: "qemu-img: Could not open 'foo:bar.img': Unknown protocol 'foo'\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "protocol block",
    image: "block:lock.img",
    text: "qemu-img: Could not open 'block:lock.img': Unknown protocol 'block'\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "protocol backup-12",
    image: "backup-12:30.img",
    text: "qemu-img: Could not open 'backup-12:30.img': Unknown protocol 'backup-12'\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "format foo",
    image: "disk.qcow2",
    text: "qemu-img: Could not open 'disk.qcow2': Unknown driver 'foo'\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "other-format",
    image: "raw.img",
    text: "qemu-img: Could not open 'raw.img': Image is not in qcow2 format\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "other-format",
    image: "raw.img",
    text: "qemu-img: Could not open 'raw.img': invalid VMDK image descriptor\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "other-format",
    image: "raw.img",
    text: "qemu-img: Could not open 'raw.img': Volume is not in LUKS format\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "other-format",
    image: "raw.img",
    text: "qemu-img: Could not open 'raw.img': invalid VPC image\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "other-format",
    image: "raw.img",
    text: "qemu-img: Could not open 'raw.img': Image not in VDI format (bad signature 00000000)\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "unknown",
    image: "v9.qcow2",
    text: "qemu-img: Could not open 'v9.qcow2': Unsupported qcow2 version 9\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "unknown",
    image: "feat.qcow2",
    text: "qemu-img: Could not open 'feat.qcow2': Unsupported qcow2 feature(s): Unknown incompatible feature: 8000000000000000\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "socket",
    image: "sock",
    text: "qemu-img: Could not open 'sock': Could not open 'sock': No such device or address\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "missing",
    image: "dangling",
    text: "qemu-img: Could not open 'dangling': Could not open 'dangling': No such file or directory\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "unknown",
    image: "loop",
    text: "qemu-img: Could not open 'loop': Could not open 'loop': Too many levels of symbolic links\n",
  },
  {
    releases: "5.2",
    cause: "server",
    image: "http://127.0.0.1:9/d.raw",
    text: "qemu-img: Could not open 'http://127.0.0.1:9/d.raw': CURL: Error opening file: Failed to connect to 127.0.0.1 port 9: Connection refused\n",
  },
  {
    releases: "7.2",
    cause: "server",
    image: "http://127.0.0.1:9/d.raw",
    text: "qemu-img: Could not open 'http://127.0.0.1:9/d.raw': CURL: Error opening file: Failed to connect to 127.0.0.1 port 9 after 0 ms: Couldn't connect to server\n",
  },
  {
    releases: "10.0",
    cause: "server",
    image: "http://127.0.0.1:9/d.raw",
    text: "qemu-img: Could not open 'http://127.0.0.1:9/d.raw': CURL: Error opening file: Failed to connect to 127.0.0.1 port 9 after 0 ms: Could not connect to server\n",
  },
  {
    releases: "5.2",
    cause: "server",
    image: "https://127.0.0.1:9/block/d.raw",
    text: "qemu-img: Could not open 'https://127.0.0.1:9/block/d.raw': CURL: Error opening file: Failed to connect to 127.0.0.1 port 9: Connection refused\n",
  },
  {
    releases: "7.2",
    cause: "server",
    image: "https://127.0.0.1:9/block/d.raw",
    text: "qemu-img: Could not open 'https://127.0.0.1:9/block/d.raw': CURL: Error opening file: Failed to connect to 127.0.0.1 port 9 after 0 ms: Couldn't connect to server\n",
  },
  {
    releases: "10.0",
    cause: "server",
    image: "https://127.0.0.1:9/block/d.raw",
    text: "qemu-img: Could not open 'https://127.0.0.1:9/block/d.raw': CURL: Error opening file: Failed to connect to 127.0.0.1 port 9 after 0 ms: Could not connect to server\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "server",
    image: "ssh://127.0.0.1:9/lock/d.raw",
    text: "qemu-img: warning: GLib: getpwuid_r(): failed due to unknown user id (0)\nqemu-img: Could not open 'ssh://127.0.0.1:9/lock/d.raw': Failed to connect to '127.0.0.1:9': Connection refused\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "server",
    image: "nbd://127.0.0.1:9",
    text: "qemu-img: Could not open 'nbd://127.0.0.1:9': Failed to connect to '127.0.0.1:9': Connection refused\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "server",
    image: "nbd+unix:///?socket=block.sock",
    text: "qemu-img: Could not open 'nbd+unix:///?socket=block.sock': Failed to connect to 'block.sock': No such file or directory\n",
  },
  {
    releases: "5.2",
    cause: "server",
    image: "nbd://nohost.invalid/x",
    text: "qemu-img: Could not open 'nbd://nohost.invalid/x': address resolution failed for nohost.invalid:10809: Name or service not known\n",
  },
  {
    releases: "7.2, 10.0",
    cause: "server",
    image: "nbd://nohost.invalid/x",
    text: "qemu-img: Could not open 'nbd://nohost.invalid/x': address resolution failed for nohost.invalid:10809: Temporary failure in name resolution\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "server",
    image: "nbd+unix:///other-lock?socket=nbd.sock",
    text: "qemu-img: Could not open 'nbd+unix:///other-lock?socket=nbd.sock': Requested export not available\nserver reported: export 'other-lock' not present\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "missing",
    image: "file:missing-block.img",
    text: "qemu-img: Could not open 'file:missing-block.img': Could not open 'missing-block.img': No such file or directory\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "missing",
    image: "/dev/block/8:0",
    text: "qemu-img: Could not open '/dev/block/8:0': Could not open '/dev/block/8:0': No such file or directory\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "locked",
    image: "disk.qcow2",
    text: "qemu-img: Could not open 'disk.qcow2': Failed to get shared \"write\" lock\nIs another process using the image [disk.qcow2]?\n",
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "locked",
    image: "disk.qcow2",
    text: "qemu-img: Could not open 'disk.qcow2': Failed to get shared \"write\" lock\nIs another process using the image [disk.qcow2]?\n",
  },
  {
    releases: "5.2",
    cause: "module curl",
    image: "http://127.0.0.1:9/d.raw",
    text: "qemu-img: Could not open 'http://127.0.0.1:9/d.raw': Unknown protocol 'http'\n",
  },
  {
    releases: "7.2",
    cause: "module curl",
    image: "http://127.0.0.1:9/d.raw",
    text: "qemu: module block-block-curl not found, do you want to install qemu-block-extra package?\nqemu-img: Could not open 'http://127.0.0.1:9/d.raw': Unknown protocol 'http'\n",
  },
  {
    releases: "10.0",
    cause: "module curl",
    image: "http://127.0.0.1:9/d.raw",
    text: "qemu-img: Unable to load module curl. Perhaps you want to install qemu-block-extra or qemu-block-supplemental package?\nqemu-img: Could not open 'http://127.0.0.1:9/d.raw': Must specify either driver or file\n",
  },
  {
    releases: "5.2",
    cause: "module curl",
    image: "https://h/block/d.raw",
    text: "qemu-img: Could not open 'https://h/block/d.raw': Unknown protocol 'https'\n",
  },
  {
    releases: "7.2",
    cause: "module curl",
    image: "https://h/block/d.raw",
    text: "qemu: module block-block-curl not found, do you want to install qemu-block-extra package?\nqemu-img: Could not open 'https://h/block/d.raw': Unknown protocol 'https'\n",
  },
  {
    releases: "10.0",
    cause: "module curl",
    image: "https://h/block/d.raw",
    text: "qemu-img: Unable to load module curl. Perhaps you want to install qemu-block-extra or qemu-block-supplemental package?\nqemu-img: Could not open 'https://h/block/d.raw': Must specify either driver or file\n",
  },
  {
    releases: "5.2",
    cause: "module rbd",
    image: "rbd:pool/block",
    text: "qemu-img: Could not open 'rbd:pool/block': Unknown protocol 'rbd'\n",
  },
  {
    releases: "7.2",
    cause: "module rbd",
    image: "rbd:pool/block",
    text: "qemu: module block-block-rbd not found, do you want to install qemu-block-extra package?\nqemu-img: Could not open 'rbd:pool/block': Unknown protocol 'rbd'\n",
  },
  {
    releases: "10.0",
    cause: "module rbd",
    image: "rbd:pool/block",
    text: "qemu-img: Unable to load module rbd. Perhaps you want to install qemu-block-extra or qemu-block-supplemental package?\nqemu-img: Could not open 'rbd:pool/block': Must specify either driver or file\n",
  },
  {
    releases: "5.2",
    cause: "module ssh",
    image: "ssh://127.0.0.1:9/lock/d.raw",
    text: "qemu-img: Could not open 'ssh://127.0.0.1:9/lock/d.raw': Unknown protocol 'ssh'\n",
  },
  {
    releases: "7.2",
    cause: "module ssh",
    image: "ssh://127.0.0.1:9/lock/d.raw",
    text: "qemu: module block-block-ssh not found, do you want to install qemu-block-extra package?\nqemu-img: Could not open 'ssh://127.0.0.1:9/lock/d.raw': Unknown protocol 'ssh'\n",
  },
  {
    releases: "10.0",
    cause: "module ssh",
    image: "ssh://127.0.0.1:9/lock/d.raw",
    text: "qemu-img: Unable to load module ssh. Perhaps you want to install qemu-block-extra or qemu-block-supplemental package?\nqemu-img: Could not open 'ssh://127.0.0.1:9/lock/d.raw': Must specify either driver or file\n",
  },
  {
    releases: "5.2",
    cause: "module curl",
    image: 'json:{"driver":"https","url":"https://h/x"}',
    text: 'qemu-img: Could not open \'json:{"driver":"https","url":"https://h/x"}\': Unknown driver \'https\'\n',
  },
  {
    releases: "7.2",
    cause: "module curl",
    image: 'json:{"driver":"https","url":"https://h/x"}',
    text: 'qemu: module block-block-curl not found, do you want to install qemu-block-extra package?\nqemu-img: Could not open \'json:{"driver":"https","url":"https://h/x"}\': Unknown driver \'https\'\n',
  },
  {
    releases: "10.0",
    cause: "module curl",
    image: 'json:{"driver":"https","url":"https://h/x"}',
    text: 'qemu-img: Unable to load module curl. Perhaps you want to install qemu-block-extra or qemu-block-supplemental package?\nqemu-img: Could not open \'json:{"driver":"https","url":"https://h/x"}\': Unknown driver \'https\'\n',
  },
  {
    releases: "5.2, 7.2, 10.0",
    cause: "format foo",
    image: 'json:{"driver":"foo"}',
    text: "qemu-img: Could not open 'json:{\"driver\":\"foo\"}': Unknown driver 'foo'\n",
  },
  {
    releases: "5.2, 7.2",
    cause: "unknown",
    image: "nbd+unix:///x",
    text: "qemu-img: Could not open 'nbd+unix:///x': No valid URL specified\n",
  },
  {
    releases: "10.0",
    cause: "unknown",
    image: "nbd+unix:///x",
    text: "qemu-img: GLib: g_hash_table_lookup: assertion 'hash_table != NULL' failed\nqemu-img: Could not open 'nbd+unix:///x': No valid URL specified\n",
  },
];
