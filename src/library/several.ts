/** The options of several streams behind one server. */
import { statSync } from "node:fs";
import { type EndpointSpec, endpointText, isEndpointFile } from "../endpoint/spec.ts";
import { about } from "../errors.ts";
import { optionError } from "../messages/notice-error.ts";
import type { EndpointChoice, StreamSettings } from "../server/settings.ts";
import {
  DEFAULTS,
  releaseNamed,
  type ResolvedRun,
  type ResolvedServe,
  resolveRun,
  resolveServe,
  resolveServer,
  type RunOptions,
  type ServeOptions,
  type ServerSettings,
  type StreamOptions,
} from "./options.ts";

/** A stream among several. What it does not set itself is the same for all of them. */
export interface OwnOptions extends Pick<
  StreamOptions,
  | "pipe"
  | "read"
  | "size"
  | "window"
  | "spool"
  | "hold"
  | "pad"
  | "exact"
  | "openTimeout"
  | "reconnect"
  | "idleTimeout"
  | "checksum"
> {
  /** The export name, which clients have to choose. */
  readonly exportName: string;
}

/** Several streams behind one server. */
export interface Several {
  readonly streams: readonly OwnOptions[];
  /** The first stream that is truncated ends the others. Default: they go on. */
  readonly failFast?: boolean | undefined;
}

export interface ServeStreamsOptions extends Omit<ServeOptions, "exportName">, Several {}

export interface RunStreamsOptions
  extends Omit<RunOptions, "exportName" | "image" | "format">, Several {}

/** Lets messages name the options. */
declare module "../messages/vocabulary.ts" {
  interface LibraryOptions extends Record<keyof Several, unknown> {}
}

/** Several streams of `serve`. @throws as {@link resolveServe}, naming the stream */
export function resolveServeStreams(options: ServeStreamsOptions): ResolvedServe[] {
  const { all, common } = streamsOf(options);
  return resolvingStreams(all, common, (stream, server) => resolveServe(stream, server));
}

/** Several streams of `run`. @throws as {@link resolveServe}, naming the stream */
export function resolveRunStreams(options: RunStreamsOptions): ResolvedRun[] {
  const { all, common } = streamsOf(options);
  return resolvingStreams(all, common, (stream, server) => resolveRun(stream, all, server));
}

/**
 * The options of each stream, with those that are for all of them, and the latter alone. There is room for two
 * clients of each, unless the user says otherwise.
 */
function streamsOf<Options extends Several & Pick<StreamOptions, "maxConnections">>(
  options: Options,
) {
  const { streams, failFast: _, ...others } = options;
  const { maxConnections = Math.max(DEFAULTS.maxConnections, 2 * streams.length) } = options;
  const common = { ...others, maxConnections };
  return { all: streams.map((own) => ({ ...common, ...own })), common };
}

/** @param common what the server's settings are made of, of which no stream has its own */
function resolvingStreams<
  Stream extends OwnOptions,
  Settings extends EndpointChoice & Pick<StreamSettings, "beforeStart">,
>(
  streams: readonly Stream[],
  common: StreamOptions,
  resolve: (stream: Stream, server: ServerSettings) => Settings,
): Settings[] {
  const resolved = new Map<string, Settings>();
  try {
    const server = resolveServer(common);
    for (const stream of streams) {
      const { exportName: name } = stream;
      if (name === "") throw optionError({ code: "STREAM_UNNAMED" });
      if (resolved.has(name)) throw optionError({ code: "STREAM_TWICE", name });
      try {
        resolved.set(name, resolve(stream, server));
      } catch (error) {
        throw about(name, error);
      }
    }
    requireOwnEndpoints(resolved);
  } catch (error) {
    for (const stream of streams) releaseNamed(stream);
    throw error;
  }
  return [...resolved.values()].map((settings) => ({
    ...settings,
    beforeStart: () => {
      // FIFOs have been made since, to which two names may lead.
      requireOwnEndpoints(resolved);
      settings.beforeStart?.();
    },
  }));
}

/** Refuses two streams with one endpoint. @throws UserError ERR_USAGE */
function requireOwnEndpoints(streams: ReadonlyMap<string, EndpointChoice>): void {
  const all = [...streams];
  for (const [i, [name, choice]] of all.entries()) {
    for (const [other, { spec, direction }] of all.slice(0, i)) {
      if (!areShared({ spec, direction }, choice)) continue;
      const endpoint = endpointText(spec);
      throw optionError({ code: "ENDPOINT_SHARED", names: [other, name], endpoint });
    }
  }
}

/** The major number of /dev/null, /dev/zero and their like, which keep nothing (null(4)). */
const MEMORY_DEVICES = 1;

/**
 * True where two streams would get into each other's way. Any number can read one file by its path; of two
 * descriptors, one may be a duplicate, with the same position.
 */
function areShared(one: EndpointChoice, other: EndpointChoice): boolean {
  const path = filePath(other.spec);
  if (path === undefined || !isEndpointFile(one.spec, path)) return false;
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats?.isCharacterDevice() === true) return stats.rdev >> 8 !== MEMORY_DEVICES;
  if (one.spec.kind === "descriptor" && other.spec.kind === "descriptor") return true;
  const readable = stats?.isFile() === true || stats?.isBlockDevice() === true;
  return !(readable && one.direction === "read" && other.direction === "read");
}

function filePath(spec: EndpointSpec): string | undefined {
  if (spec.kind === "path") return spec.path;
  return spec.kind === "descriptor" ? `/proc/self/fd/${spec.fd}` : undefined;
}
