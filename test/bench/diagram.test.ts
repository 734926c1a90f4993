// Goal: the packet diagram shows the packets of a capture, at their times. Method: two captures written as the lab
// writes them, of an ordinary connection and of a half-open that was kept and used; both drawings read back.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { drawSvg, drawText } from "../../bench/diagram/draw.ts";
import { type Flow, readFlows } from "../../bench/diagram/flows.ts";
import { PcapWriter } from "../../bench/lab/pcap.ts";
import { encodePacket } from "../../native/wire/packet.ts";
import { ACK, PSH, SYN } from "../../native/wire/tcp.ts";

const PORT = 8080;
const NEAR = Uint8Array.of(10, 77, 0, 1);
const FAR = Uint8Array.of(10, 77, 0, 2);
const ONE_WAY_MS = 20;
const ISS = 1000;
const IRS = 5000;

/** One packet by the near host's clock: sent then, or received then. */
type Step = readonly [nearMs: number, from: "near" | "far", flags: number, payload?: string];

const ORDINARY: readonly Step[] = [
  [100, "near", SYN],
  [140, "far", SYN | ACK],
  [140.1, "near", ACK],
  [140.2, "near", ACK | PSH, "GET /9 HTTP/1.1\r\n\r\n"],
  [180.5, "far", ACK | PSH, "HTTP/1.1 200 OK\r\n\r\n"],
  [181, "near", ACK],
];
const KEPT: readonly Step[] = [
  [1000, "near", SYN],
  [1000.1, "near", SYN],
  [1040, "far", SYN | ACK],
  [1040.1, "far", SYN | ACK],
  [1800, "near", SYN],
  [1840, "far", SYN | ACK],
  [2000, "near", ACK | PSH, "GET /9 HTTP/1.1\r\n\r\n"],
  [2040.4, "far", ACK | PSH, "HTTP/1.1 200 OK\r\n\r\n"],
];

function capture(
  connections: readonly (readonly [client: number, steps: readonly Step[]])[],
): readonly Flow[] {
  const folder = mkdtempSync(join(tmpdir(), "accelproxy-test-"));
  try {
    const paths = [join(folder, "near.pcap"), join(folder, "far.pcap")] as const;
    const [near, far] = paths.map((path) => new PcapWriter(path, 0)) as [PcapWriter, PcapWriter];
    for (const [client, steps] of connections) {
      for (const [nearMs, from, flags, payload = ""] of steps) {
        const toFar = from === "near";
        const isSyn = (flags & SYN) !== 0;
        const ends = toFar
          ? { src: NEAR, dst: FAR, sport: client, dport: PORT, seq: isSyn ? ISS : ISS + 1, ack: IRS + 1 }
          : { src: FAR, dst: NEAR, sport: PORT, dport: client, seq: isSyn ? IRS : IRS + 1, ack: ISS + 1 };
        const packet = { ...ends, flags, window: 1000, options: {}, ttl: 64 };
        const bytes = encodePacket(packet, Buffer.from(payload));
        near.append(nearMs, bytes);
        far.append(nearMs + (toFar ? ONE_WAY_MS : -ONE_WAY_MS), bytes);
      }
    }
    near.close();
    far.close();
    return readFlows(...paths, PORT);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const flows = suite("flows of a capture");
flows("given an ordinary connection, then its zero is its SYN", () => {
  const [flow] = capture([[40_001, ORDINARY]]);
  assert.is(flow?.isAccelerated, false);
  assert.ok(Math.abs(flow!.firstByteMs - 80.5) < 0.01);
  assert.equal(
    flow!.arrows.map(({ label, toFar, isEarly }) => [label, toFar, isEarly]),
    [
      ["SYN", true, false],
      ["SYN-ACK", false, false],
      ["ACK", true, false],
      ["ACK + GET /9, 19 bytes", true, false],
      ["200 OK, 19 bytes", false, false],
    ],
  );
});
flows("given a kept half-open, then its zero is the request and its last refresh comes before", () => {
  const [flow] = capture([[40_002, KEPT]]);
  assert.is(flow?.isAccelerated, true);
  assert.is(flow!.syns, 3);
  assert.is(Math.round(flow!.openedMs), -1000);
  assert.ok(Math.abs(flow!.firstByteMs - 40.4) < 0.01);
  assert.equal(
    flow!.arrows.map(({ label, nearMs, farMs, isEarly }) => [
      label,
      Math.round(nearMs),
      Math.round(farMs),
      isEarly,
    ]),
    [
      ["SYN", -200, -180, true],
      ["SYN-ACK", -160, -180, true],
      ["ACK + GET /9, 19 bytes", 0, 20, false],
      ["200 OK, 19 bytes", 40, 20, false],
    ],
  );
});
flows("given a connection without an answer, then it is left out", () => {
  assert.equal(capture([[40_003, ORDINARY.slice(0, 4)]]), []);
});

const drawings = suite("drawings");
const [direct, accelerated] = capture([
  [40_001, ORDINARY],
  [40_002, KEPT],
]);
drawings("given two flows, then the text has both, with zero in one line", () => {
  const text = drawText(direct!, accelerated!);
  const rows = text.split("\n");
  assert.ok(rows.some((row) => row.split("connection wanted").length === 3));
  assert.match(text, /first byte after 80\.5 ms/);
  assert.match(text, /first byte after 40\.4 ms/);
  assert.match(text, /half-open since 1\.0 s, kept by 3 SYNs/);
  assert.match(text, /−200\.0 ─+ SYN ─+▶ −180\.0$/m);
});
drawings("given two flows, then the SVG says the same", () => {
  const svg = drawSvg(direct!, accelerated!);
  assert.match(svg, /^<svg [^>]+>\n<title>First byte after 80\.5 ms .* after 40\.4 ms /);
  assert.is(
    svg.match(/marker-end/g)?.length,
    4 + 4,
    "the ACK and the request of the ordinary one are one arrow",
  );
  assert.match(svg, />ACK, then ACK \+ GET \/9, 19 bytes</);
});

flows.run();
drawings.run();
