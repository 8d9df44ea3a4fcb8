/**
 * Calls `work`, and then each of `steps` in turn, even if `work` or an earlier step throws.
 *
 * @returns the result of `work`
 * @throws the first error that was thrown
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
