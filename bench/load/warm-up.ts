import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { bodyOf } from "./body.ts";
import { exchange, type Outcome, requestFor } from "./exchange.ts";
import { originServer } from "./origin-server.ts";

const REQUESTS = 600;
const TIMEOUT_MS = 5_000;

/**
 * Exchanges requests between a client and an origin of this process, so that the code of both is compiled
 * before it counts: the first hundred requests of a fresh process take several times as long as later ones.
 * Collects the garbage afterwards where --expose-gc allows it. Rejects when an answer is wrong.
 */
export async function warmUp(size: number): Promise<void> {
  const server = originServer().server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const target = { host: "127.0.0.1", port };
  const request = requestFor(target, bodyOf(size), TIMEOUT_MS);
  for (let sent = 0; sent < REQUESTS; sent++) {
    const { error } = await new Promise<Outcome>((resolve) => exchange(target, request, resolve));
    if (error !== undefined) throw new Error(`warm-up: ${error}`);
  }
  server.close();
  await once(server, "close");
  globalThis.gc?.();
}
