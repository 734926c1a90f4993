import { parseArgs } from "node:util";

export const BENCHMARK_NAMES = ["latency", "rate", "http", "throughput", "pool", "repair"] as const;
export type BenchmarkName = (typeof BENCHMARK_NAMES)[number];

export type Command =
  | { readonly kind: "report" }
  | { readonly kind: "help" }
  | {
      readonly kind: "run";
      readonly names: readonly BenchmarkName[];
      readonly quick: boolean;
      /** Undefined: bench/results/NAME.json. */
      readonly json: string | undefined;
    }
  | { readonly kind: "wrong"; readonly problem: string };

export const USAGE = `usage: npm run bench -- NAME [--quick] [--json FILE]
NAME is one of ${BENCHMARK_NAMES.join(", ")}, all, or report.
Results go to bench/results/NAME.json, or with --json to FILE; report renders them into docs/results/.
--quick takes fewer cases and rounds: everything within 6 minutes instead of 45.
`;

/** What the command line asks for. */
export function parseCommand(args: readonly string[]): Command {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(args);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return { kind: "wrong", problem: error.message };
  }
  const { values, positionals } = parsed;
  if (values.help) return { kind: "help" };
  const [name, ...rest] = positionals;
  if (name === undefined) return { kind: "wrong", problem: "which benchmark?" };
  if (rest.length > 0)
    return { kind: "wrong", problem: `one benchmark at a time, not also ${rest.join(", ")}` };
  if (name === "report") {
    return values.quick || values.json !== undefined
      ? { kind: "wrong", problem: "report takes no options: it renders what bench/results/ holds" }
      : { kind: "report" };
  }
  const names = name === "all" ? BENCHMARK_NAMES : BENCHMARK_NAMES.filter((known) => known === name);
  if (names.length === 0) return { kind: "wrong", problem: `there is no benchmark "${name}"` };
  if (name === "all" && values.json !== undefined) {
    return { kind: "wrong", problem: "--json takes the result of one benchmark, not of all" };
  }
  return { kind: "run", names, quick: values.quick, json: values.json };
}

function parse(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
}
