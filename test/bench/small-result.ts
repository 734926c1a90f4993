import { rowsOf } from "../../bench/measure/compare.ts";
import type { BenchResult } from "../../bench/measure/result.ts";

const name = "RTT 40 ms, 1 kB, steady";
const parameters = { rttMs: 40, sizeBytes: 1_000, loss: 0, pattern: "steady" };

/** A result as small as the report can use: one case, in which a peer is better than we are. */
export const smallResult: BenchResult = {
  name: "latency",
  quick: true,
  date: "2026-01-02T03:04:05.000Z",
  durationSeconds: 7,
  commit: "0123456789abcdef0123456789abcdef01234567",
  kernel: "6.18.0",
  cpu: "2 × a processor, 4 GiB",
  node: "v20.0.0",
  peers: { "nginx http, keepalive": "1.22.1" },
  sysctls: { "net.ipv4.tcp_congestion_control": "bbr" },
  skipped: [{ what: "HAProxy tcp", why: "haproxy is not installed" }],
  rows: [
    ...rowsOf({
      case: name,
      parameters,
      metric: "first byte",
      unit: "ms",
      baseline: "direct",
      samples: {
        direct: [80, 81],
        accelproxy: [40, 42],
        "nginx http, keepalive": [40, 40.2],
      },
    }),
    ...rowsOf({
      case: name,
      parameters,
      metric: "hit rate",
      unit: "%",
      baseline: null,
      samples: { accelproxy: [100] },
    }),
  ],
};
