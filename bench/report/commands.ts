/** The soak whose result is reported beside the benchmarks. */
export const SOAK = "soak-engine";

/** What measures a result again. */
export function commandOf(name: string, quick: boolean): string {
  if (name === SOAK) return "npm run soak -- engine";
  return `npm run bench -- ${name}${quick ? " --quick" : ""}`;
}
