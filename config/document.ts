import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  visit,
  type YAMLMap,
} from "yaml";
import { show } from "./problems.ts";
import { errorOffset, explainSyntax } from "./syntax.ts";

/** A place in the text; both from 1, the column in UTF-16 units. */
type Position = { readonly line: number; readonly column: number };

/** Where a value stands: mapping keys and list indices from the root. */
export type Path = readonly (string | number)[];

/** What to point at. `use`: the value, or the alias or mapping through which its path borrows it. */
export type Part = "key" | "value" | "use";

/** Something wrong with the text itself, before any key is looked at. */
type TextProblem = Position & { readonly problem: string; readonly remedy: string };

/** YAML text as plain values that remember where each of them stands. */
export type ConfigDocument = {
  /** Mappings as objects, lists as arrays; undefined when `problems` left nothing worth looking at. */
  readonly value: unknown;
  readonly problems: readonly TextProblem[];
  /** The place of a part; the nearest place above it when the path leads nowhere. */
  readonly locate: (path: Path, part: Part) => Position;
};

// More expansions than any configuration needs; a few lines of aliases can otherwise mean gigabytes.
const aliasesMax = 10_000;

/**
 * Reads one YAML 1.2 document (JSON included) with anchors, aliases and merge keys.
 * A syntax error stops the reading at the first one, because everything after it is guesswork; a key given
 * twice does not, so that the other problems of the file are reported with it.
 */
export function readDocument(text: string): ConfigDocument {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    merge: true,
    schema: "core",
    stringKeys: true,
    uniqueKeys: false, // found below, with the line of the first one
  });
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const [syntaxError] = [...document.errors, ...document.warnings].sort((a, b) => a.pos[0] - b.pos[0]);
  if (syntaxError !== undefined) {
    const offset = errorOffset(document, text, syntaxError);
    return unusable([{ ...at(offset), ...explainSyntax(text, syntaxError, offset) }]);
  }
  if (document.contents === null || (isScalar(document.contents) && document.contents.value === null)) {
    return unusable([{ ...top, problem: "the file holds no configuration", remedy: skeletonRemedy }]);
  }
  try {
    const aliases = resolveAliases(document);
    const faults = aliases.faults.length > 0 ? aliases.faults : mappingFaults(document, aliases.targets, at);
    const problems = faults.map(({ offset, problem, remedy }) => ({ ...at(offset), problem, remedy }));
    if (faults.some((fault) => fault.fatal)) return unusable(problems);
    const value: unknown = document.toJS({ maxAliasCount: aliasesMax });
    const locate = (path: Path, part: Part) => at(offsetOf(document.contents, aliases.targets, path, part));
    return { value, problems, locate };
  } catch (err) {
    if (err instanceof ReferenceError) {
      const problem = `aliases expand to more than ${aliasesMax} values`;
      return unusable([{ ...top, problem, remedy: "write the values out" }]);
    }
    if (!(err instanceof RangeError)) throw err; // RangeError: the stack, as for the parser's RESOURCE_EXHAUSTION
    return unusable([{ ...top, problem: "the file is nested too deeply", remedy: "nest less deeply" }]);
  }
}

const top: Position = { line: 1, column: 1 };
const skeletonRemedy = "write at least listeners: and upstreams:";

type StructureFault = {
  readonly offset: number;
  readonly problem: string;
  readonly remedy: string;
  readonly fatal: boolean;
};

function unusable(problems: readonly TextProblem[]): ConfigDocument {
  return { value: undefined, problems, locate: () => top };
}

/** What each alias repeats. */
type Targets = ReadonlyMap<Alias, Node>;

/** Finds the target of every alias in one pass: yaml's Alias.resolve() walks the whole document each time. */
function resolveAliases(document: Document): { targets: Targets; faults: StructureFault[] } {
  const anchors = new Map<string, Node>();
  const targets = new Map<Alias, Node>();
  const faults: StructureFault[] = [];
  visit(document, {
    Node(_, node) {
      if (!isAlias(node)) {
        if (node.anchor !== undefined) anchors.set(node.anchor, node);
        return;
      }
      const target = anchors.get(node.source);
      const offset = start(node);
      if (target === undefined) {
        const problem = `the alias *${node.source} has no anchor before it`;
        faults.push({
          offset,
          problem,
          remedy: `put &${node.source} before the value it repeats`,
          fatal: true,
        });
      } else if (offset < (target.range?.[2] ?? 0)) {
        const problem = `the alias *${node.source} stands inside the value it repeats`;
        faults.push({ offset, problem, remedy: "take it out", fatal: true });
      } else targets.set(node, target);
    },
  });
  if (targets.size > aliasesMax) throw new ReferenceError("too many aliases");
  return { targets, faults };
}

/** Faults that the YAML grammar allows: keys given twice, merges of something that is not a mapping. */
function mappingFaults(
  document: Document,
  targets: Targets,
  at: (offset: number) => Position,
): StructureFault[] {
  const faults: StructureFault[] = [];
  visit(document, {
    Map(_, map) {
      const first = new Map<string, number>();
      for (const pair of map.items) {
        const key = keyText(pair);
        const offset = start(pair.key);
        const earlier = first.get(key);
        if (earlier === undefined) first.set(key, offset);
        else faults.push({ offset, fatal: false, ...duplicateFault(key, at(earlier).line) });
        if (key === "__proto__") {
          faults.push({ offset, problem: "unknown key __proto__", remedy: "take it out", fatal: true });
        }
        if (key !== "<<" || mergeSources(targets, pair) !== undefined) continue;
        const remedy = "write an alias of a mapping, for example <<: *defaults";
        faults.push({ offset, problem: "<< merges something that is not a mapping", remedy, fatal: true });
      }
    },
  });
  return faults;
}

function duplicateFault(key: string, line: number): { problem: string; remedy: string } {
  const remedy = key === "<<" ? "merge several mappings with <<: [*a, *b]" : "keep one of the two";
  return { problem: `the key ${show(key)} is given twice, first in line ${line}`, remedy };
}

/** Follows a path through aliases and merge keys; an alias at its end is where the value is used. */
function offsetOf(root: unknown, targets: Targets, path: Path, part: Part): number {
  let node = root;
  let key: unknown;
  for (const step of path) {
    if (part === "use" && isAlias(node)) break;
    const parent = isAlias(node) ? targets.get(node) : node;
    if (isMap(parent)) {
      const pair = findPair(targets, parent, String(step));
      if (pair === undefined || (part === "use" && !parent.items.includes(pair))) break;
      key = pair.key;
      node = pair.value;
    } else if (isSeq(parent) && typeof step === "number" && step < parent.items.length) {
      key = undefined;
      node = parent.items[step];
    } else break;
  }
  const isBlank = !isNode(node) || (isScalar(node) && node.value === null && node.source === "");
  return key !== undefined && (part === "key" || isBlank) ? start(key) : start(node);
}

/** The pair whose value a mapping ends up with: its own last one, else that of the first merged mapping. */
function findPair(targets: Targets, map: YAMLMap, name: string): Pair | undefined {
  const own = map.items.findLast((pair) => keyText(pair) === name);
  if (own !== undefined) return own;
  for (const merge of map.items.filter((pair) => keyText(pair) === "<<")) {
    for (const source of mergeSources(targets, merge) ?? []) {
      const pair = findPair(targets, source, name);
      if (pair !== undefined) return pair;
    }
  }
  return undefined;
}

/** The mappings that a `<<` names; undefined when it names anything else. */
function mergeSources(targets: Targets, pair: Pair): YAMLMap[] | undefined {
  const resolve = (node: unknown) => (isAlias(node) ? targets.get(node) : node);
  const value = resolve(pair.value);
  const sources = isSeq(value) ? value.items.map(resolve) : [value];
  return sources.every((source) => isMap(source)) ? sources : undefined;
}

function keyText({ key }: Pair): string {
  if (!isScalar(key)) return "";
  return typeof key.value === "symbol" ? (key.value.description ?? "") : String(key.value ?? "");
}

function start(node: unknown): number {
  return isNode(node) ? (node.range?.[0] ?? 0) : 0;
}
