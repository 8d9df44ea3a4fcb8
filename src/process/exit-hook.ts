/** What has to be done should the program end while it is still to be done: process.exit(), a fault. */

const duties = new Set<() => void>();

function discharge(): void {
  for (const duty of [...duties]) duty();
}

/**
 * Has `duty` done when the program ends, unless that is by a signal or not in order at all.
 *
 * @param duty does not wait for anything
 * @returns releases from it
 */
export function onExit(duty: () => void): () => void {
  // One listener for all: a program is warned of many.
  if (duties.size === 0) process.on("exit", discharge);
  duties.add(duty);
  return () => {
    if (duties.delete(duty) && duties.size === 0) process.off("exit", discharge);
  };
}
