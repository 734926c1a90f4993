/** Facts of GET /status in words, for the page and for the terminal. Pure. */
import type { HistogramCounts, PoolStatus } from "./status.ts";

export function hitRate({ hits, misses }: Pick<PoolStatus, "hits" | "misses">): string {
  return hits + misses === 0 ? "–" : share(hits / (hits + misses));
}

/** A part of a whole, 0 to 1. */
export function share(part: number): string {
  return `${(100 * part).toFixed(1)} %`;
}

/** Whom connections of a pool are between. */
export function poolEnds({ server, client }: Pick<PoolStatus, "server" | "client">): string {
  return client === undefined ? server : `${server} from ${client}`;
}

/** "resting": nobody asks for it, and `min` is 0. */
export function poolState({
  cookies,
  paused,
  target,
}: Pick<PoolStatus, "cookies" | "paused" | "target">): string {
  const rest = target === 0 ? ["resting"] : [];
  const words = [...(paused ? ["paused"] : rest), ...(cookies ? ["cookies"] : [])];
  return words.length === 0 ? "ok" : words.join(", ");
}

/** The two largest units: 3d 4h, 2m 5s, 7s. */
export function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3_600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [seconds % 60, "s"],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0s";
  return parts
    .slice(first, first + 2)
    .map(([count, unit]) => `${count}${unit}`)
    .join(" ");
}

/** Seconds as people say them: 12.3 s, 4 min 5 s, 3 h 20 min. */
export function spent(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return minutes < 60 * 48
    ? `${Math.floor(minutes / 60)} h ${minutes % 60} min`
    : `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

export function milliseconds(ms: number): string {
  return ms < 1 ? `${ms.toFixed(2)} ms` : ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1e3).toFixed(1)} s`;
}

export function grouped(count: number): string {
  return count.toLocaleString("en");
}

/** Where half of the observations are, as if they were spread evenly in their bucket; ms. Pure. */
export function medianMs({ boundsSeconds, counts }: HistogramCounts): number | undefined {
  const half = counts.reduce((sum, count) => sum + count, 0) / 2;
  if (half === 0) return undefined;
  let before = 0;
  for (const [bucket, count] of counts.entries()) {
    if (before + count >= half) {
      const from = boundsSeconds[bucket - 1] ?? 0;
      const to = boundsSeconds[bucket] ?? from; // of what is above all bounds nothing else is known
      return 1e3 * (from + ((to - from) * (half - before)) / count);
    }
    before += count;
  }
  return undefined;
}
