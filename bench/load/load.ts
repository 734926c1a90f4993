/**
 * The load generator as a process: prints one line of JSON, a LoadResult with every sample; with --stream also
 * one for each request as it ends. Exit 0 even when requests failed: the samples say so.
 */
import { parseArgs } from "node:util";
import type { Phase } from "./arrivals.ts";
import { type NamedTarget, runLoad } from "./generator.ts";

const USAGE = `usage: load --target NAME=HOST:PORT [--target …] [--rate PER_SECOND] [--duration SECONDS]
            [--later PER_SECOND:SECONDS …] [--size BYTES] [--seed N] [--timeout SECONDS] [--stream]
A TARGET that ends in "?fastopen" is reached by TCP Fast Open.
`;

const { values } = parseArgs({
  options: {
    target: { type: "string", multiple: true, default: [] },
    rate: { type: "string", default: "20" },
    duration: { type: "string", default: "10" },
    later: { type: "string", multiple: true, default: [] },
    size: { type: "string", default: "100" },
    seed: { type: "string", default: "1" },
    timeout: { type: "string", default: "10" },
    stream: { type: "boolean", default: false },
  },
});

function parseTarget(text: string): NamedTarget | undefined {
  const [, name, host, port, fast] = /^([^=]+)=\[?([^\]]+?)\]?:(\d+)(\?fastopen)?$/.exec(text) ?? [];
  return name && host && port ? { name, host, port: Number(port), fastOpen: fast !== undefined } : undefined;
}

function parsePhase(text: string): Phase {
  const [rate = Number.NaN, seconds = Number.NaN] = text.split(":").map(Number);
  return { rate, durationMs: seconds * 1e3 };
}

const targets = values.target.flatMap((text) => parseTarget(text) ?? []);
const later = values.later.map(parsePhase);
const numbers = [values.rate, values.duration, values.size, values.seed, values.timeout].map(Number);
if (
  targets.length === 0 ||
  targets.length < values.target.length ||
  ![...numbers, ...later.flatMap(({ rate, durationMs }) => [rate, durationMs])].every(Number.isFinite)
) {
  process.stderr.write(USAGE);
  process.exit(2);
}
const [rate = 0, duration = 0, size = 0, seed = 0, timeout = 0] = numbers;
const options = { targets, rate, durationMs: duration * 1e3, later, seed, size, timeoutMs: timeout * 1e3 };
const print = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
print(await runLoad(options, values.stream ? (target, sample) => print({ target, sample }) : undefined));
