// drivers: io_uring, epoll
// Goal: what one side sends is what the other receives, however much, in whatever pieces, and however slowly it is
// read; and none of it piles up in the proxy.
// Method: pseudo-random bytes to an echoing upstream 10 ms away, compared by SHA-256; a peer that stops reading.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type BytesWorld, createBytesWorld, residentBytes, sumOf, thereAndBack } from "./bytes-cases.ts";
import type { PeerConnection } from "./peer.ts";

const MIB = 1 << 20;
const SESSIONS = 400;
/** Buffers of the engine, socket buffers seen as resident, and the collector's slack. */
const GROWTH_MAX = 48 * MIB;

const bytes = suite<{ bytesWorld: BytesWorld }>("bytes");
bytes.before(async (context) => {
  context.bytesWorld = await createBytesWorld();
});
bytes.after(async ({ bytesWorld }) => {
  await bytesWorld.world.close();
});

bytes("given 64 MiB each way through one session, then they arrive unchanged", async ({ bytesWorld }) => {
  const tookMs = await thereAndBack(bytesWorld, 64 * MIB);
  console.log(`  64 MiB each way in ${(tookMs / 1e3).toFixed(1)} s`);
});

bytes("given many small writes with pauses, then they arrive unchanged", async ({ bytesWorld }) => {
  await Promise.all([
    thereAndBack(bytesWorld, 20_011, { chunk: 7 }),
    thereAndBack(bytesWorld, 300_007, { chunk: 997, pauseMs: 20, pauseEvery: 10 }),
    thereAndBack(bytesWorld, 1, { chunk: 1 }),
    thereAndBack(bytesWorld, 65_536),
    thereAndBack(bytesWorld, 65_537, { chunk: 4_097, pauseMs: 5 }),
  ]);
});

bytes(`given ${SESSIONS} sessions at once, then each gets its own bytes back`, async ({ bytesWorld }) => {
  const { client, proxy } = bytesWorld;
  const startedMs = performance.now();
  const port = proxy.port("echo");
  const problems = await client.exchanges({
    host: "127.0.0.1",
    port,
    count: SESSIONS,
    bytesMax: 60_000,
    seed: 3,
  });
  console.log(`  ${SESSIONS} sessions in ${((performance.now() - startedMs) / 1e3).toFixed(1)} s`);
  assert.equal(problems, []);
  await proxy.until("no session left", async () =>
    (await proxy.status()).listeners.every(({ active }) => active === 0),
  );
});

for (const direction of ["client", "upstream"] as const) {
  bytes(
    `given a ${direction} that stops reading, then the sender stops and nothing piles up`,
    async ({ bytesWorld }) => {
      const { client, proxy, server } = bytesWorld;
      const sessions: [PeerConnection, PeerConnection][] = [];
      for (let index = 0; index < 4; index++) {
        const outside = await client.connect(proxy.port("driven"), "127.0.0.1", { text: "go" });
        const inside = await server.next();
        await inside.heard("go");
        sessions.push([outside, inside]);
      }
      const before = residentBytes(bytesWorld);
      const amount = 32 * MIB;
      const transfers = sessions.map(async ([outside, inside], index) => {
        const [reader, writer] = direction === "client" ? [outside, inside] : [inside, outside];
        await reader.pause();
        let isSent = false;
        const sent = writer.send({ bytes: amount, seed: index }).then(() => {
          isSent = true;
        });
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        assert.not(isSent, "32 MiB vanished into buffers although nobody read them");
        const grown = residentBytes(bytesWorld) - before;
        assert.ok(grown <= GROWTH_MAX, `${grown} bytes more resident`);
        await reader.resume();
        await sent;
        await writer.end();
        await reader.saw("end", 30_000);
        return reader.report();
      });
      for (const [index, report] of (await Promise.all(transfers)).entries()) {
        assert.is(report.bytes, amount + (direction === "client" ? 0 : 2));
        if (direction === "client") assert.is(report.sha256, sumOf(index, amount));
      }
      const grown = residentBytes(bytesWorld) - before;
      assert.ok(grown <= GROWTH_MAX, `${grown} bytes more resident after the transfers`);
      for (const [outside, inside] of sessions) await Promise.all([outside.end(), inside.end()]);
    },
  );
}
bytes.run();
