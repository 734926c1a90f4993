/**
 * A program that uses the library, for tests of how it ends: `program.ts PORT ACTION`. It keeps half-opens for the
 * loopback, makes one connection, prints `ready`, `accelerated` or `ordinary`, and does what ACTION says.
 */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { createPool } from "../../library/index.ts";

const [, , port = "0", action = "nothing"] = process.argv;
const pool = createPool({ host: "localhost", port: Number(port), min: 4, max: 8 });
const isReady = await pool.ready();
for (let tries = 0; tries < 2; tries++) {
  const socket = await pool.connect();
  socket.write("hello");
  const [chunk] = (await once(socket, "data")) as [Buffer];
  if (chunk.toString() !== "hello") throw new Error(`not the echo: ${chunk}`);
  socket.destroy();
}
const hits = pool.stats().reduce((sum, stats) => sum + stats.hits, 0);
console.log(isReady && hits > 0 ? "accelerated" : "ordinary");

if (action === "close") await pool.close();
else if (action === "exit") process.exit(3);
else if (action === "throw") throw new Error("on purpose");
else if (action === "stay") await sleep(60_000);
