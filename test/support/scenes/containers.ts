/** The image, by docs/kubernetes.md, with stand-ins for podman: what it would do in the image is done here. */
import { expect } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../program.ts";
import { expectCompressed, withImage } from "./masters.ts";
import type { Scene } from "./stage.ts";

const DOCUMENT = "docs/kubernetes.md";

const RUN = `
[ "$1 $2 $3" = "run --rm --userns=keep-id" ] && [ "$4 $5" = "--user $(id -u)" ] || exit 97
[ "$6 $7" = "-v $PWD:/data" ] && [ "$8" = nbd-streaming ] || exit 97
shift 8
exec nbd-streaming "$@"
`;

export const CONTAINERS: readonly Scene[] = [
  {
    document: DOCUMENT,
    block: "podman build",
    title: "builds the image from files of the project",
    commands: { podman: 'printf "%s\\n" "$*"\n' },
    after(_, { stdout }) {
      const [, file, context] = /^build -t nbd-streaming -f (\S+) (\S+)\n$/.exec(stdout) ?? [];
      expect(existsSync(join(ROOT, file as string))).toBe(true);
      // What `bun run release` makes.
      expect(context).toBe("dist");
    },
  },
  {
    document: DOCUMENT,
    block: "podman run",
    title: "streams an image of the folder into a file there",
    needs: ["zstd"],
    commands: { podman: RUN },
    before: withImage,
    after: expectCompressed,
  },
];
