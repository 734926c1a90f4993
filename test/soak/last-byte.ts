/**
 * 100 kB to the last byte over half-open connections of any age: the pool is left alone for 0, 5, 20 and 60 s,
 * with cubic and bbr at the server. Prints a table, one row for each case as it ends; exit 1 when an accelerated
 * response was less than 0.9 round trips faster than an ordinary one, or the server's sockets began with another
 * window or RTO. `npm run soak -- last-byte`; about 4 minutes.
 */
import { median } from "../../bench/load/percentiles.ts";
import {
  createLastByteWorld,
  measureLastByte,
  RTT_MS,
  setServerCongestionControl,
  startLastByteProxy,
} from "../e2e/last-byte.ts";

const IDLE_SECONDS = [0, 5, 20, 60];

console.log(`RTT ${RTT_MS} ms, 100 kB; times of the last byte in ms`);
console.log("server  idle s  direct p50  accelerated p50  slowest  saved RTTs  cwnd  RTO max  bounds");
await using world = await createLastByteWorld();
for (const congestionControl of ["cubic", "bbr"]) {
  await setServerCongestionControl(world, congestionControl);
  const proxy = await startLastByteProxy(world);
  for (const idleSeconds of IDLE_SECONDS) {
    const measured = await measureLastByte(world, proxy, idleSeconds * 1e3);
    const { acceleratedMs, directMs, errors, misses, sockets, savedRttsMin } = measured;
    const cwnds = [...new Set(sockets.flatMap(({ firstCwnd }) => firstCwnd ?? []))];
    const rtoMaxMs = Math.max(...sockets.map((socket) => socket.rtoMaxMs));
    const isFirst = cwnds.length === 1 && cwnds[0] === 10;
    const isGood = savedRttsMin >= 0.9 && isFirst && rtoMaxMs <= 1_100 && errors.length + misses === 0;
    const cells = [
      congestionControl.padEnd(6),
      String(idleSeconds).padStart(6),
      median(directMs).toFixed(1).padStart(10),
      median(acceleratedMs).toFixed(1).padStart(15),
      Math.max(...acceleratedMs)
        .toFixed(1)
        .padStart(7),
      savedRttsMin.toFixed(2).padStart(10),
      cwnds.join("/").padStart(4),
      rtoMaxMs.toFixed(0).padStart(7),
      isGood ? "kept" : "MISSED",
    ];
    console.log(cells.join("  "));
    if (!isGood) process.exitCode = 1;
  }
  await proxy.stop();
}
