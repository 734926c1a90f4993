/** The documents as a reader finds his way in them: tables, headings, links. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));

export function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

/** README.md and all under docs/ but what the benchmarks write, as paths from the root. */
export function documents(): string[] {
  const below = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" });
  const written = below.filter((path) => path.endsWith(".md")).map((path) => join("docs", path));
  return ["README.md", "bench/README.md", "bench/lab/README.md", ...written].sort();
}

/** The cells of every table row with this many columns, without heads and rules. */
export function rows(text: string, columns: number): string[][] {
  const lines = text.split("\n");
  const isRule = (line: string | undefined): boolean => /^\|[-| ]+\|$/.test(line ?? "");
  return lines
    .filter((line, index) => line.startsWith("|") && !isRule(line) && !isRule(lines[index + 1]))
    .map((line) => line.slice(1, -1).split(/(?<!\\)\|/))
    .filter((cells) => cells.length === columns)
    .map((cells) => cells.map((cell) => cell.trim()));
}

export interface Link {
  /** Where it stands. */
  readonly from: string;
  readonly to: string;
  /** As a path from the root. */
  readonly path: string;
  readonly anchor: string | undefined;
}

/** Links to files of the repository. */
export function links(from: string): Link[] {
  return [...read(from).matchAll(/\]\((?![a-z]+:)([^()\s]+)\)/g)].map(([, to = ""]) => {
    const [path = "", anchor] = to.split("#");
    return { from, to, path: path === "" ? from : relative(root, join(root, dirname(from), path)), anchor };
  });
}

/** What a heading is called in a link, as GitHub makes it. */
export function anchors(path: string): Set<string> {
  const headings = read(path)
    .replace(/^```[\s\S]*?^```/gm, "")
    .matchAll(/^#+ (.+)$/gm);
  return new Set(
    [...headings].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}
