/** What the host is told of the options that `serve` and `run` share. */
import { CHECKSUM_ALGORITHMS } from "../endpoint/checksum.ts";
import { usageError } from "../errors.ts";
import { requireOtherThan } from "../files/place.ts";
import { optionError } from "../messages/notice-error.ts";
import { NBD_MAX_STRING } from "../protocol/constants.ts";
import type { HostOptions } from "../server/host.ts";
import { loadCertificates, type Security } from "../tls/certificates.ts";
import { chooseEndpoint } from "./endpoint.ts";
import { checkConnections, checkSeconds } from "./numbers.ts";
import { namedFiles, type StreamParts } from "./named-files.ts";
import type { StreamOptions } from "./options.ts";
import { toSize, toWindow } from "./size.ts";
import type { Frame } from "./streaming.ts";

/** Seconds from the connection to the choice of the export; an honest client takes milliseconds. */
const NEGOTIATION_TIMEOUT = 10;

const MAX_CONNECTIONS = 100;

const WORKER = new URL("../stream.worker.ts", import.meta.url);

/** What is up to the one or the other. */
type Particular = "entrance" | "short" | "idleTimeout" | "needsSize";

/** @throws UserError ERR_USAGE, ERR_TLS */
export function hostOptions(
  options: StreamOptions & Pick<StreamParts, "image" | "listen">,
  frame: Frame,
): Omit<HostOptions, Particular> {
  const { direction, spec } = chooseEndpoint(options);
  const { size, window, pad, exact, openTimeout, reconnect, checksum } = options;
  const { negotiationTimeout = NEGOTIATION_TIMEOUT, maxConnections = MAX_CONNECTIONS } = options;
  const reading = direction === "read";
  if (!reading && exact === true) {
    throw optionError({ code: "EXACT_WRITTEN" });
  }
  if (checksum !== undefined && !CHECKSUM_ALGORITHMS.includes(checksum)) {
    throw usageError(
      `checksum ${checksum} is not known: there are ${CHECKSUM_ALGORITHMS.join(", ")}`,
    );
  }
  const { pidFile } = options;
  if (pidFile !== undefined) {
    const { image, listen } = options;
    const others = namedFiles({ direction, spec, image, listen });
    requireOtherThan({ name: { code: "OPTION", option: "pidFile" }, path: pidFile }, others);
  }
  return {
    ...frame,
    direction,
    spec,
    size: size === undefined ? undefined : toSize("size", size),
    window: window === undefined ? 0 : toWindow(window),
    pad: reading && pad === true,
    exact: exact === true,
    exportName: checkExportName(options.exportName),
    pidFile,
    security: securityOf(options),
    maxConnections: checkConnections(maxConnections),
    negotiationTimeout: checkSeconds("negotiationTimeout", negotiationTimeout),
    reconnect: reconnect === undefined ? undefined : checkSeconds("reconnect", reconnect),
    openTimeout:
      openTimeout === undefined
        ? undefined
        : checkSeconds(reading ? "writerTimeout" : "readerTimeout", openTimeout),
    checksum,
    workerUrl: options.workerUrl ?? WORKER,
  };
}

/**
 * Seconds that a client may stop for in the middle of a request; undefined is for ever. One that may
 * come back and has stopped for as long as it has for that is lost, whether or not its link says so.
 *
 * @throws UserError ERR_USAGE
 */
export function idleTimeoutOf(
  { idleTimeout, reconnect }: StreamOptions,
  otherwise: number | undefined,
): number | undefined {
  const given = idleTimeout === 0 ? undefined : (idleTimeout ?? otherwise);
  const seconds = given === undefined ? undefined : checkSeconds("idleTimeout", given);
  if (seconds === undefined || reconnect === undefined) return seconds ?? reconnect;
  return Math.min(seconds, reconnect);
}

function securityOf({ tls }: StreamOptions): Security {
  if (tls === undefined) return { policy: "off" };
  const { policy, certificates: folder, verifyPeer = false } = tls;
  if (policy !== "on" && policy !== "require") {
    throw usageError(`tls.policy ${policy as string} is not known: there are on and require`);
  }
  return { policy, folder, options: loadCertificates(folder, verifyPeer) };
}

function checkExportName(name: string | undefined): string | undefined {
  if (Buffer.byteLength(name ?? "") <= NBD_MAX_STRING) return name;
  throw optionError({ code: "EXPORT_NAME", most: NBD_MAX_STRING });
}
