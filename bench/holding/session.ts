/** A program of this folder on a host of the lab: one line of JSON a phase, and a line back to go on. */
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Host } from "../lab/lab.ts";
import { startProgram } from "../load/processes.ts";

export interface Session {
  readonly pid: number;
  /** What the program says of the phase it has reached. Rejects when it ends or says something else. */
  next(phase: string): Promise<Readonly<Record<string, unknown>>>;
  /** Lets it go on. */
  go(): void;
  /** Closes its input and waits for its end. */
  end(): Promise<void>;
}

export function startSession(host: Host, program: string, args: readonly (string | number)[] = []): Session {
  const script = new URL(`./${program}`, import.meta.url);
  const child = startProgram(host, script, args.map(String));
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  return {
    pid: child.pid!,
    async next(phase) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`${program} ended before it had ${phase}`);
      const said = JSON.parse(value) as Record<string, unknown>;
      if (said.phase !== phase) throw new Error(`${program} says ${value}, not ${phase}`);
      return said;
    },
    go: () => void child.stdin!.write("go\n"),
    async end() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.stdin!.end();
      child.kill();
      await ended;
    },
  };
}
