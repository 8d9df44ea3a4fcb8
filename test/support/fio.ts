/** fio(1) as a client. */

/** True where fio is installed. */
export const FIO = Bun.which("fio") !== null;

/**
 * Words behind `run pipe=SINK` for a command that runs jobs of fio's nbd engine. That leaves without NBD_CMD_DISC, so qemu-nbd is
 * between, which does not. The working directory has the socket.
 */
export function fio(...jobs: readonly string[]): string[] {
  const line = `
    qemu-nbd -t -e 8 -k "$PWD/fio.sock" --discard=unmap -f raw "$nbd" & server=$!
    until [ -S fio.sock ]; do kill -0 $server && sleep 0.05 || exit 1; done
    fio --ioengine=nbd --uri="nbd+unix:///?socket=$PWD/fio.sock" "$@"; status=$?
    kill $server && wait $server && exit $status`;
  return ["--", "sh", "-c", line, "sh", ...jobs];
}

/** Words for a job whose blocks can be told by what they contain. */
export function verifying(...words: readonly string[]): string[] {
  return ["--name=job", "--randseed=7", "--verify=crc32c", "--iodepth=16", "--minimal", ...words];
}
