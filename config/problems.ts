/** One thing that is wrong with a configuration file, and what to write instead. Lines and columns from 1. */
export type Problem = {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly problem: string;
  readonly remedy: string;
};

/** A problem as one line for a terminal, `FILE:LINE:COL: problem (remedy)`. */
export function formatProblem(p: Problem): string {
  return `${p.file}:${p.line}:${p.column}: ${p.problem} (${p.remedy})`;
}

/**
 * What is wrong with one value, before its place in the file is known.
 * `missing`: the key is absent; `bad`: everything else.
 */
export type Fault =
  | { readonly kind: "missing"; readonly remedy: string }
  | { readonly kind: "bad"; readonly problem: string; readonly remedy: string };

/** What the reader of one value returns: never throws, a fault carries its remedy. */
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly fault: Fault };

/** A value that was read. */
export function good<T>(value: T): { readonly ok: true; readonly value: T } {
  return { ok: true, value };
}

/** A value that cannot be used; `problem` continues a sentence that begins with the key. */
export function bad(problem: string, remedy: string): { readonly ok: false; readonly fault: Fault } {
  return { ok: false, fault: { kind: "bad", problem, remedy } };
}

// A problem is one line of a terminal: longer values are cut.
const shownCharsMax = 60;

/** A value as a problem quotes it: strings in quotes and cut to 60 characters, collections by their kind. */
export function show(value: unknown): string {
  if (typeof value === "string") {
    const chars = [...value];
    return JSON.stringify(
      chars.length <= shownCharsMax ? value : `${chars.slice(0, shownCharsMax).join("")}…`,
    );
  }
  if (value === null || value === undefined) return "empty";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "a mapping" : String(value);
}

/** The candidate a misspelt word most likely meant, or undefined when none is near. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const plain = (text: string) => text.toLowerCase().replace(/[-_ ]/g, "");
  const wanted = plain(word).slice(0, shownCharsMax);
  const stem = candidates.find((candidate) => candidate.length > 2 && wanted.startsWith(plain(candidate)));
  let best = stem;
  let bestDistance = Math.max(1, Math.floor(wanted.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(wanted, plain(candidate));
    if (distance < bestDistance && distance < candidate.length) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let cost = Math.min(last[j]! + 1, row[j - 1]! + 1, substitution);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, beforeLast[j - 2]! + 1);
      }
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}
