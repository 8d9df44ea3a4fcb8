/**
 * The seed and the number of cases of fast-check. Both are fixed in CI; NBD_STREAMING_SEED and NBD_STREAMING_RUNS
 * explore further.
 */
export function exploring(
  seed: number,
  runs: number,
): { readonly SEED: number; readonly RUNS: number } {
  const { NBD_STREAMING_SEED, NBD_STREAMING_RUNS } = process.env;
  return { SEED: Number(NBD_STREAMING_SEED ?? seed), RUNS: Number(NBD_STREAMING_RUNS ?? runs) };
}
