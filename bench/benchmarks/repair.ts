/**
 * What it costs to turn a half-open connection into an established socket, in CPU time of the calling thread: by
 * system calls, by a linked io_uring chain and by the same calls in C, in batches, beside an ordinary connect(). Then
 * what it costs to dump and restore live connections, in ESTABLISHED and after a FIN.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type { BenchContext, Benchmark } from "../context.ts";
import { runJsonLines } from "../load/processes.ts";
import { groupBy, type Row, rowsOf } from "../measure/compare.ts";
import { findProgram } from "../peers/peer.ts";
import { root } from "../root.ts";

const BASELINE = "connect() on loopback";

type Line =
  | { readonly batch: number; readonly variant: string; readonly us: number }
  | { readonly skipped: string; readonly why: string };

interface LiveLine {
  readonly what: "dump" | "restore";
  readonly batch: number;
  readonly variant: string;
  readonly us: number;
}

export const repair: Benchmark = {
  name: "repair",
  async run(context) {
    const lab = await context.lab({ hosts: ["box"] });
    const rounds = context.quick ? 120 : 1_000;
    const program = buildC(context);
    const script = new URL("../repair/restore-program", import.meta.url);
    const args = [String(rounds), ...(program === undefined ? [] : [program])];
    const lines = (await runJsonLines(lab.host("box"), script, args)) as Line[];
    const liveScript = new URL("../repair/live-program", import.meta.url);
    const live = (await runJsonLines(lab.host("box"), liveScript, args)) as LiveLine[];
    await context.closeLab(lab);
    for (const line of lines) if ("skipped" in line) context.skip(line.skipped, line.why);
    const observed = lines.filter((line) => "batch" in line);
    const materialized = [...groupBy(observed, ({ batch }) => String(batch))].flatMap(
      ([batch, own]): Row[] => {
        const byVariant = groupBy(own, ({ variant }) => variant);
        return rowsOf({
          case: `materialize, batches of ${batch}`,
          parameters: { batch: Number(batch) },
          metric: "CPU",
          unit: "µs a connection",
          baseline: BASELINE,
          samples: Object.fromEntries([...byVariant].map(([name, all]) => [name, all.map(({ us }) => us)])),
        });
      },
    );
    const lived = [...groupBy(live, ({ what, batch }) => `${what}, batches of ${batch}`)].flatMap(
      ([name, own]): Row[] => {
        const byVariant = groupBy(own, ({ variant }) => variant);
        return rowsOf({
          case: `live connections: ${name}`,
          parameters: { batch: own[0]!.batch },
          metric: "CPU",
          unit: "µs a connection",
          baseline: own[0]!.what === "dump" ? "all options" : "ESTABLISHED",
          samples: Object.fromEntries(
            [...byVariant].map(([variant, all]) => [variant, all.map(({ us }) => us)]),
          ),
        });
      },
    );
    return [...materialized, ...lived];
  },
};

/** The C program, or undefined where there is no compiler. */
function buildC(context: BenchContext): string | undefined {
  const what = "C, system calls";
  const compiler = findProgram("cc");
  if (compiler === undefined) {
    context.skip(what, "there is no C compiler (gcc, libc6-dev)");
    return undefined;
  }
  const program = join(context.folder, "restore");
  const source = join(root, "bench/repair/restore.c");
  const { status, stderr } = spawnSync(compiler, ["-O2", "-o", program, source], { encoding: "utf8" });
  if (status === 0) return program;
  context.skip(what, `cc failed: ${stderr.trim().split("\n")[0]}`);
  return undefined;
}
