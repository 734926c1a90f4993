// alone
// drivers: io_uring, epoll
// Goal: a response of many flights is a round trip sooner to its last byte too, also after the pool was left
// alone: the upstream's kernel treats a kept half-open like any young connection (initial window, RTO).
// Method: responses of 100 kB, in turn through the proxy and past it, under bbr and cubic at the server; the
// server's sockets as `ss -tin` shows them. The median accelerated response has to be clearly faster than the
// median ordinary one; what fails on time is measured once more. `npm run soak -- last-byte` waits up to 60 s.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  createLastByteWorld,
  measureLastByte,
  setServerCongestionControl,
  startLastByteProxy,
} from "./last-byte.ts";
import type { World } from "./world.ts";

// 0.9 on a quiet machine, which `npm run soak -- last-byte` asks for; an ordinary connection saves none.
const SAVED_RTTS_MIN = 0.6;
const RTO_MAX_MS = 1_100;

interface Context {
  world: World;
}

const lastByte = suite<Context>("last byte through the proxy");

lastByte.before(async (context) => {
  context.world = await createLastByteWorld();
});

lastByte.after(async ({ world }) => {
  await world.close();
});

for (const congestionControl of ["bbr", "cubic"]) {
  lastByte(
    `given a server with ${congestionControl}, then 100 kB come a round trip sooner`,
    async ({ world }) => {
      await setServerCongestionControl(world, congestionControl);
      const proxy = await startLastByteProxy(world);
      for (const idleMs of [0, 5_000]) {
        let measured = await measureLastByte(world, proxy, idleMs);
        if (measured.savedRtts < SAVED_RTTS_MIN) measured = await measureLastByte(world, proxy, idleMs);
        const { acceleratedMs, errors, misses, sockets, savedRtts } = measured;
        const seen = `after ${idleMs} ms: ${JSON.stringify(measured)}`;
        assert.equal(errors, [], seen);
        assert.is(misses, 0, seen);
        assert.ok(sockets.length >= acceleratedMs.length, seen);
        assert.ok(
          sockets.every((socket) => socket.congestionControl === congestionControl),
          seen,
        );
        const firstCwnds = sockets.flatMap(({ firstCwnd }) => firstCwnd ?? []);
        assert.ok(firstCwnds.length >= acceleratedMs.length / 2, seen);
        assert.ok(
          firstCwnds.every((cwnd) => cwnd === 10),
          seen,
        );
        assert.ok(
          sockets.every(({ rtoMaxMs }) => rtoMaxMs <= RTO_MAX_MS),
          seen,
        );
        assert.ok(savedRtts >= SAVED_RTTS_MIN, seen);
      }
      assert.is(await proxy.stop(), 0);
    },
  );
}

lastByte.run();
