/** The pause that one session in a hundred exceeds, ms with two decimals; 0 of none. Sorts what it is given. */
export function p99(pausesMs: number[]): number {
  const at = Math.ceil(0.99 * pausesMs.length) - 1;
  return Math.round((pausesMs.sort((a, b) => a - b)[at] ?? 0) * 100) / 100;
}
