// Goal: which operations restore a connection, in which order. Method: whole plans as text, per image.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { IP_OPTIONS, IPPROTO_IP, IPPROTO_TCP } from "../../../native/abi/socket.ts";
import * as tcp from "../../../native/abi/tcp.ts";
import { fromHandshake, type Handshake } from "../../../native/repair/image.ts";
import type { RepairOp } from "../../../native/repair/ops.ts";
import { restorePlan } from "../../../native/repair/plan.ts";

const NAMES = new Map<number, string>([
  [tcp.TCP_REPAIR, "TCP_REPAIR"],
  [tcp.TCP_REPAIR_QUEUE, "TCP_REPAIR_QUEUE"],
  [tcp.TCP_QUEUE_SEQ, "TCP_QUEUE_SEQ"],
  [tcp.TCP_MAXSEG, "TCP_MAXSEG"],
  [tcp.TCP_TIMESTAMP, "TCP_TIMESTAMP"],
  [tcp.TCP_NODELAY, "TCP_NODELAY"],
]);

function text(step: RepairOp): string {
  switch (step.op) {
    case "socket":
      return `socket v${step.family}`;
    case "setInt":
      assert.is(step.level, IPPROTO_TCP);
      return `${NAMES.get(step.name)} ${step.value}`;
    case "setBytes":
      assert.equal([step.level, step.name, step.bytes.length], [IPPROTO_IP, IP_OPTIONS, 0]);
      return "IP_OPTIONS empty";
    case "setOptions":
      return `TCP_REPAIR_OPTIONS ${step.options.map(([code, value]) => `${code}:${value.toString(16)}`).join(" ")}`;
    case "setWindow":
      return `TCP_REPAIR_WINDOW ${Object.values(step.window).join(" ")}`;
    case "write":
    case "shutdown":
    case "feed":
      return step.op;
    case "bind":
    case "connect":
    case "startConnect":
      return `${step.op} ${step.end.address.join(".")} ${step.end.port}`;
  }
}

const HANDSHAKE: Handshake = {
  local: { address: Uint8Array.of(10, 77, 0, 1), port: 40_000 },
  remote: { address: Uint8Array.of(10, 77, 0, 2), port: 8080 },
  iss: 1_000,
  irs: 2_000,
  advmss: 1_460,
  synWindow: 64_240,
  mss: 1_400,
  snd_wnd: 65_160,
  snd_wscale: 9,
  rcv_wscale: 7,
  sackPermitted: true,
  tsval: 123_456,
};
const V6 = {
  local: { address: new Uint8Array(16).fill(1), port: 1 },
  remote: { address: new Uint8Array(16).fill(2), port: 2 },
};

const planOf = (change: Partial<Handshake>, options: Parameters<typeof fromHandshake>[1] = []): string[] =>
  restorePlan(fromHandshake({ ...HANDSHAKE, ...change }, options)).map(text);

const plan = suite("restore plan");

plan("given a half-open with every option, then exactly this", () => {
  assert.equal(planOf({}), [
    "socket v4",
    "TCP_REPAIR 1",
    "TCP_MAXSEG 1448",
    "bind 10.77.0.1 40000",
    "TCP_REPAIR_QUEUE 1",
    "TCP_QUEUE_SEQ 2001",
    "TCP_REPAIR_QUEUE 2",
    "TCP_QUEUE_SEQ 1001",
    "connect 10.77.0.2 8080",
    "TCP_REPAIR_OPTIONS 2:578 3:70009 4:0 8:0",
    "IP_OPTIONS empty",
    "TCP_TIMESTAMP 123456",
    "TCP_REPAIR_WINDOW 2000 65160 65160 64240 2001",
    "TCP_REPAIR -1",
  ]);
});

for (const [given, change, differences] of [
  [
    "no SACK",
    { sackPermitted: false },
    { "TCP_REPAIR_OPTIONS 2:578 3:70009 4:0 8:0": "TCP_REPAIR_OPTIONS 2:578 3:70009 8:0" },
  ],
  [
    "no window scaling",
    { snd_wscale: undefined },
    { "TCP_REPAIR_OPTIONS 2:578 3:70009 4:0 8:0": "TCP_REPAIR_OPTIONS 2:578 3:0 4:0 8:0" },
  ],
  [
    "no timestamps",
    { tsval: undefined },
    {
      "TCP_MAXSEG 1448": "TCP_MAXSEG 1460",
      "TCP_REPAIR_OPTIONS 2:578 3:70009 4:0 8:0": "TCP_REPAIR_OPTIONS 2:578 3:70009 4:0",
      "TCP_TIMESTAMP 123456": undefined,
    },
  ],
  [
    "no MSS option",
    { mss: 0 },
    { "TCP_REPAIR_OPTIONS 2:578 3:70009 4:0 8:0": "TCP_REPAIR_OPTIONS 2:218 3:70009 4:0 8:0" },
  ],
  ["an MSS below the kernel's least", { advmss: 60 }, { "TCP_MAXSEG 1448": "TCP_MAXSEG 88" }],
  ["an MSS above the kernel's most", { advmss: 65_483 }, { "TCP_MAXSEG 1448": "TCP_MAXSEG 0" }],
  [
    "sequence numbers about to wrap",
    { iss: 0xffff_ffff, irs: 0xffff_ffff },
    {
      "TCP_QUEUE_SEQ 2001": "TCP_QUEUE_SEQ 0",
      "TCP_QUEUE_SEQ 1001": "TCP_QUEUE_SEQ 0",
      "TCP_REPAIR_WINDOW 2000 65160 65160 64240 2001": "TCP_REPAIR_WINDOW 4294967295 65160 65160 64240 0",
    },
  ],
] as const) {
  plan(`given ${given}, then the plan differs in that alone`, () => {
    const replaced = new Map<string, string | undefined>(Object.entries(differences));
    const expected = planOf({}).flatMap((step) => (replaced.has(step) ? (replaced.get(step) ?? []) : step));
    assert.is.not(JSON.stringify(expected), JSON.stringify(planOf({})));
    assert.equal(planOf(change), expected);
  });
}

plan("given IPv6, then an IPv6 socket, and 1220 bytes when the server names no MSS", () => {
  const steps = planOf({ ...V6, mss: 0 });
  assert.is(steps[0], "socket v6");
  assert.ok(steps.includes("TCP_REPAIR_OPTIONS 2:4c4 3:70009 4:0 8:0"));
});

plan("given socket options, then they are set before bind and connect", () => {
  const steps = planOf({}, [{ level: IPPROTO_TCP, name: tcp.TCP_NODELAY, value: 1 }]);
  assert.equal(steps.slice(2, 5), ["TCP_MAXSEG 1448", "TCP_NODELAY 1", "bind 10.77.0.1 40000"]);
});

plan.run();
