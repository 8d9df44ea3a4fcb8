/** `run` for programs. */
import { run as runCaptive } from "../captive/run.ts";
import { cleaningUp } from "../clean-up.ts";
import { textOf } from "../messages/text.ts";
import { LIBRARY, type Vocabulary } from "../messages/vocabulary.ts";
import { type EndSignal, signalStatus } from "../process/signals.ts";
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
  return runWith(options, LIBRARY);
}

/** The same for whoever gives options by other names. */
export function runWith(options: RunOptions, vocabulary: Vocabulary): Streaming {
  return new Streaming(options, vocabulary, async (frame) => {
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
          return endedAfter(outcome, frame.stopSignal.caught ?? "SIGTERM", vocabulary);
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
function endedAfter(
  { summary }: StreamResult,
  signal: EndSignal,
  vocabulary: Vocabulary,
): StreamResult {
  const why = { code: "STOPPED_BEFORE_STORED", signal } as const;
  const reason = textOf(why, vocabulary);
  return { status: signalStatus(signal), why, summary: { ...summary, complete: false, reason } };
}

/** A signal that comes while the image is looked at has ended qemu-img, too. */
function unlessStopped(stop: AbortSignal): (error: unknown) => undefined {
  return (error) => {
    if (!stop.aborted) throw error;
  };
}
