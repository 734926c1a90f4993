/**
 * Requests at random times by GET and POST through several targets at once, and what came of each. A target is the origin
 * itself, over Node's keep-alive Agent, or a proxy, over a connection a request. Prints the counts as JSON.
 *
 *   keepalive-traffic.ts SECONDS LANES [NAME=PORT=HOST ...]
 */
import { Agent, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const [seconds = 0, lanes = 0] = process.argv.slice(2, 4).map(Number);
const targets = process.argv.slice(4).map((text) => text.split("="));
/** An idle connection is used again about when the origin gives it up, 1 s after its last answer. */
const PAUSE = { leastMs: 850, mostMs: 1_150 } as const;

async function ask(port: number, host: string, agent: Agent | false, method: string): Promise<string> {
  return new Promise((resolve) => {
    const asked = request({ port, host, agent, method, timeout: 10_000 }, (response) => {
      response.resume().on("end", () => resolve(String(response.statusCode)));
      response.on("error", (error: NodeJS.ErrnoException) => resolve(String(error.code)));
    });
    asked.on("error", (error: NodeJS.ErrnoException) => resolve(String(error.code)));
    asked.on("timeout", () => asked.destroy());
    asked.end(method === "POST" ? "x".repeat(100) : undefined);
  });
}

const counts: Record<string, Record<string, number>> = {};
const untilMs = performance.now() + 1e3 * seconds;
await Promise.all(
  targets.flatMap(([name = "", port = "", host = ""]) => {
    const agent = host === "127.0.0.1" ? false : new Agent({ keepAlive: true });
    const seen: Record<string, number> = {};
    counts[name] = seen;
    return Array.from({ length: lanes }, async () => {
      while (performance.now() < untilMs) {
        const method = Math.random() < 0.5 ? "GET" : "POST";
        const key = `${method} ${await ask(Number(port), host, agent, method)}`;
        seen[key] = (seen[key] ?? 0) + 1;
        await sleep(PAUSE.leastMs + Math.random() * (PAUSE.mostMs - PAUSE.leastMs));
      }
      if (agent) agent.destroy();
    });
  }),
);
process.send?.(counts);
process.disconnect?.();
