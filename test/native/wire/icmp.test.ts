// Goal: the unreachable message is what RFC 792 and RFC 4443 say. Method: whole packets, byte by byte, with sums that
// come out, into buffers that are dirty and too short.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checksum, pseudoHeaderSum } from "../../../native/wire/checksum.ts";
import { encodeUnreachableInto, type Quoted } from "../../../native/wire/icmp.ts";
import { verifyIpv4Checksum } from "../../../native/wire/ipv4.ts";

const segment = { sport: 0x1234, dport: 80, seq: 0x0102_0304, ack: 5, flags: 16, window: 6, ttl: 64 };
const V4: Quoted = { ...segment, src: Uint8Array.of(10, 0, 0, 1), dst: Uint8Array.of(10, 0, 0, 2) };
const V6: Quoted = { ...segment, src: new Uint8Array(16).fill(1), dst: new Uint8Array(16).fill(2) };

function encode(quoted: Quoted): Uint8Array {
  const out = new Uint8Array(200).fill(0xa5);
  return out.subarray(0, encodeUnreachableInto(out, quoted));
}

const icmp = suite("icmp: unreachable");

icmp("given IPv4, then host unreachable to the source, quoting header and segment", () => {
  const packet = encode(V4);
  assert.is(packet.length, 20 + 8 + 20 + 20);
  assert.equal([packet[9], ...packet.subarray(12, 20)], [1, 10, 0, 0, 2, 10, 0, 0, 1]);
  assert.equal([...packet.subarray(20, 22), ...packet.subarray(24, 28)], [3, 1, 0, 0, 0, 0]);
  assert.equal([packet[37], ...packet.subarray(40, 48)], [6, 10, 0, 0, 1, 10, 0, 0, 2]);
  assert.equal([...packet.subarray(48, 56)], [0x12, 0x34, 0, 80, 1, 2, 3, 4]);
  assert.ok(verifyIpv4Checksum(packet, 0, 20) && verifyIpv4Checksum(packet, 28, 48));
  assert.is(checksum(packet, 20, packet.length), 0);
});

icmp("given IPv6, then no route to the source, summed with the pseudo header", () => {
  const packet = encode(V6);
  assert.is(packet.length, 40 + 8 + 40 + 20);
  assert.equal([packet[6], packet[8], packet[24]], [58, 2, 1]);
  assert.equal([...packet.subarray(40, 42), ...packet.subarray(44, 48)], [1, 0, 0, 0, 0, 0]);
  assert.equal([packet[54], packet[56], packet[72]], [6, 1, 2]);
  assert.equal([...packet.subarray(88, 96)], [0x12, 0x34, 0, 80, 1, 2, 3, 4]);
  assert.is(checksum(packet, 40, packet.length, pseudoHeaderSum(packet, 8, 16, 58, 68)), 0);
});

for (const [name, quoted] of [
  ["IPv4", V4],
  ["IPv6", V6],
] as const) {
  icmp(`given too little room for ${name} by any number of bytes, then RangeError`, () => {
    const { length } = encode(quoted);
    for (let room = 0; room < length; room++) {
      assert.throws(() => encodeUnreachableInto(new Uint8Array(room), quoted), RangeError);
    }
  });
}

icmp.run();
