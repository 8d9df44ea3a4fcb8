/** The options of several streams behind one server. */
import { statSync } from "node:fs";
import { type EndpointSpec, endpointText, isEndpointFile } from "../endpoint/spec.ts";
import { about } from "../errors.ts";
import { optionError } from "../messages/notice-error.ts";
import type { EndpointChoice, StreamSettings } from "../server/settings.ts";
import {
  DEFAULTS,
  releaseEndpoint,
  type ResolvedRun,
  type ResolvedServe,
  resolveRun,
  resolveServe,
  type RunOptions,
  type ServeOptions,
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
  const { streams, common } = commonOf(options);
  return resolvingStreams(streams, (own) => resolveServe({ ...common, ...own }));
}

/** Several streams of `run`. @throws as {@link resolveServe}, naming the stream */
export function resolveRunStreams(options: RunStreamsOptions): ResolvedRun[] {
  const { streams, common } = commonOf(options);
  const all = streams.map((own) => ({ ...common, ...own }));
  return resolvingStreams(streams, (own) => resolveRun({ ...common, ...own }, all));
}

/** The options that are for all streams. There is room for two clients of each, unless the user says otherwise. */
function commonOf<Options extends Several & Pick<StreamOptions, "maxConnections">>(
  options: Options,
): { streams: readonly OwnOptions[]; common: Omit<Options, keyof Several> } {
  const { streams, failFast: _, ...common } = options;
  const maxConnections =
    options.maxConnections ?? Math.max(DEFAULTS.maxConnections, 2 * streams.length);
  return { streams, common: { ...common, maxConnections } };
}

function resolvingStreams<Settings extends EndpointChoice & Pick<StreamSettings, "beforeStart">>(
  streams: readonly OwnOptions[],
  resolve: (own: OwnOptions) => Settings,
): Settings[] {
  const resolved = new Map<string, Settings>();
  try {
    for (const own of streams) {
      const { exportName: name } = own;
      if (name === "") throw optionError({ code: "STREAM_UNNAMED" });
      if (resolved.has(name)) throw optionError({ code: "STREAM_TWICE", name });
      let settings: Settings;
      try {
        settings = resolve(own);
      } catch (error) {
        throw about(name, error);
      }
      resolved.set(name, settings);
    }
    requireOwnEndpoints(resolved);
  } catch (error) {
    for (const settings of resolved.values()) releaseEndpoint(settings);
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
