// Goal: long bodies count only when every byte arrived, both ways.
// Method: the program as a process, against the origin in this process and against servers that are wrong in a chosen way.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { bodyOf } from "../../../bench/load/body.ts";
import { originServer } from "../../../bench/load/origin-server.ts";

const LENGTH = 3_000_000;
const PROGRAM = fileURLToPath(new URL("../../../bench/load/transfer.ts", import.meta.url));

async function transfer(server: Server, direction: string, ...check: string[]) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const args = ["127.0.0.1", String(port), direction, String(LENGTH), "2", "2", ...check];
  const child = spawn(process.execPath, [...process.execArgv, PROGRAM, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [out, problem, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ]);
  server.close();
  return { out, problem, code };
}

const transfers = suite("transfer");
for (const direction of ["down", "up"]) {
  for (const check of [[], ["check"]]) {
    transfers(`given the origin, when ${direction} ${check}, then every byte of every turn`, async () => {
      const { server, counts } = originServer();
      const { out, problem, code } = await transfer(server, direction, ...check);
      assert.is(code, 0, problem);
      assert.is(JSON.parse(out).bytes, 4 * LENGTH);
      assert.is(counts().connections, 4);
    });
  }
}
for (const [given, body, check, problem] of [
  ["a body cut short", bodyOf(LENGTH - 1), [], /2999999 of 3000000 bytes/],
  ["one wrong byte", bodyOf(LENGTH).fill(0, LENGTH - 1), ["check"], /wrong bytes/],
] as const) {
  transfers(`given ${given}, then it fails`, async () => {
    const result = await transfer(
      createServer((_, response) => response.end(body)),
      "down",
      ...check,
    );
    assert.is(result.code, 1);
    assert.match(result.problem, problem);
  });
}
transfers("given a server that got something else, when up, then it fails", async () => {
  const wrong = createServer((request, response) => {
    request.resume().on("end", () => response.end("2999999"));
  });
  const result = await transfer(wrong, "up");
  assert.is(result.code, 1);
  assert.match(result.problem, /said 2999999/);
});
transfers.run();
