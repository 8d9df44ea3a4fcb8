/** Work with steps behind it that have to be taken in every case. */

/**
 * Does `work`, and then every step in turn, whatever has become of the work and of the steps before: one
 * that throws does not leave behind what the next ones would have removed.
 *
 * @returns what `work` returned
 * @throws the first error that one of them threw
 */
export async function cleaningUp<T>(
  work: () => T | Promise<T>,
  ...steps: readonly (() => unknown)[]
): Promise<T> {
  const errors: unknown[] = [];
  let result: T | undefined;
  const all = [
    async () => {
      result = await work();
    },
    ...steps,
  ];
  for (const step of all) {
    try {
      await step();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
  return result as T;
}
