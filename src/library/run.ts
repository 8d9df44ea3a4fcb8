/** `run` for programs. */
import { run as runCaptive } from "../captive/run.ts";
import { cleaningUp } from "../clean-up.ts";
import type { EndSignal } from "../process/signals.ts";
import { endedBy } from "../server/exit-status.ts";
import type { StreamResult } from "../server/host.ts";
import { endedBefore } from "../server/stop-signal.ts";
import { clientOf } from "./client.ts";
import { doubtOf } from "./contents.ts";
import { hostOptions, idleTimeoutOf } from "./host-options.ts";
import type { RunOptions } from "./options.ts";
import { Streaming } from "./streaming.ts";

/**
 * Runs a command with the stream as its disk, or copies an image into or out of it. It catches no
 * signals; the command gets those that are for the whole process group.
 */
export function run(options: RunOptions): Streaming {
  return new Streaming(options, async (frame) => {
    const host = hostOptions(options, frame);
    const { direction, spec } = host;
    const client = clientOf(options, host);
    const { command } = options;
    const between = { direction, spec, image: client.image, command };
    const { stop } = frame.stopSignal;
    let complete = false;
    return await cleaningUp(
      async () => {
        await client.prepare(host.log);
        const size = host.size ?? (await client.size(stop).catch(unlessStopped(stop)));
        const { caught } = frame.stopSignal;
        if (caught !== undefined) throw endedBefore(caught);
        const outcome = await runCaptive({
          ...host,
          doubts: (start) => doubtOf(start, between),
          size,
          needsSize: client.needsSize ?? options.needsSize,
          // A command that has read a part of the stream and is content has had what it wanted.
          short: direction === "read" || options.pad === false ? "allow" : "pad",
          address: options.listen,
          idleTimeout: idleTimeoutOf(options, undefined),
          command: client.command,
          image: client.image,
        });
        complete = outcome.why === undefined;
        const product = client.product();
        if (complete && product !== undefined && !(await product.keep(stop))) {
          return endedAfter(outcome, frame.stopSignal.caught ?? "SIGTERM");
        }
        if (!complete && product?.isReplacement) {
          host.log.info(`${client.image} is as it was before`);
        }
        return outcome;
      },
      // A complete one that cannot have its name stays where it is.
      () => {
        const product = client.product();
        if (!complete) product?.discard();
        if (product?.left !== undefined) host.log.warn(product.left);
      },
    );
  });
}

/** All has been streamed, but not all of it was stored when the signal came. */
function endedAfter(result: StreamResult, signal: EndSignal): StreamResult {
  const verdict = endedBy(signal, " before the image was on the disk: it is as it was before");
  const summary = { ...result.summary, complete: false, reason: verdict.why ?? null };
  return { ...result, ...verdict, summary };
}

/** A signal that comes while the image is looked at has ended qemu-img, too. */
function unlessStopped(stop: AbortSignal): (error: unknown) => undefined {
  return (error) => {
    if (!stop.aborted) throw error;
  };
}
