/** The order of the programs in a round. */

/**
 * The same in another order, each order as likely as any: a program must not always run behind the same
 * other one, whose leftovers in caches and queues would then be part of its figure.
 *
 * @param random from 0 to below 1
 */
export function shuffled<T>(items: readonly T[], random: () => number = Math.random): T[] {
  const left = [...items];
  return items.flatMap(() => left.splice(Math.floor(random() * left.length), 1));
}
