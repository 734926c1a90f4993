import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checksum } from "../../../native/wire/checksum.ts";
import { verifyIpv4Checksum } from "../../../native/wire/ipv4.ts";
import {
  type DecodedPacket,
  decodePacket,
  encodePacket,
  encodePacketInto,
  packetLength,
  type TcpPacket,
  verifyPacketChecksums,
} from "../../../native/wire/packet.ts";
import { ACK, SYN } from "../../../native/wire/tcp.ts";
import { payload, tcpPacket, u8 } from "./arbitraries.ts";
import { bytes, SYN_BY_SYSCTL, V4, V6 } from "./captures.ts";

/**
 * Goal: what is sent cannot be told from the kernel's, and nothing that arrives breaks or fools the decoder.
 * Method: captures both ways, properties, truncation at every length, every single bit flipped, and 100,000
 * mutations of valid packets, each accepted one checked against a second reading of the RFCs.
 */

const isRangeError = (error: unknown) => error instanceof RangeError;

const CAPTURES: readonly (readonly [string, Uint8Array])[] = [
  ...Object.entries(V4).map(([name, packet]) => [`IPv4 ${name}`, packet] as const),
  ...Object.entries(V6).map(([name, packet]) => [`IPv6 ${name}`, packet] as const),
  ...SYN_BY_SYSCTL.map(({ sysctl, packet }) => [`SYN with ${sysctl}`, packet] as const),
];

/** What a packet says, without where its payload lies. */
function fieldsOf({ payloadStart, payloadEnd, ...fields }: DecodedPacket): TcpPacket {
  return fields;
}

function payloadOf(packet: Uint8Array, { payloadStart, payloadEnd }: DecodedPacket): Uint8Array {
  return packet.slice(payloadStart, payloadEnd);
}

const SYN_ACK: TcpPacket = {
  src: Uint8Array.of(192, 0, 2, 7),
  dst: Uint8Array.of(192, 0, 2, 1),
  ttl: 64,
  id: 0,
  sport: 8080,
  dport: 59310,
  seq: 0xf904acb5,
  ack: 0x06cbbac4,
  flags: SYN | ACK,
  window: 65160,
  options: { mss: 1460, sackPermitted: true, tsval: 0x66045c54, tsecr: 0x1d2d66c3, wscale: 10 },
};

const captured = suite("packet: captured from Linux");

captured("given the kernel's SYN-ACK, then every field is read", () => {
  assert.equal(decodePacket(V4.synAck), { ...SYN_ACK, payloadStart: 60, payloadEnd: 60 });
});

captured("given the fields of the kernel's SYN-ACK, then encoding gives its very bytes", () => {
  assert.equal(encodePacket(SYN_ACK), V4.synAck);
});

captured("given the kernel's IPv6 request, then the flow label and the payload are read", () => {
  const packet = decodePacket(V6.request);
  assert.is(packet?.flowLabel, 0xcea31);
  assert.is(packet?.id, undefined);
  assert.is(Buffer.from(payloadOf(V6.request, packet!)).toString(), "GET / HTTP/1.0\r\n\r\n");
});

for (const [name, packet] of CAPTURES) {
  captured(
    `given the ${name}, then its checksums are right and decoding and encoding gives its very bytes`,
    () => {
      assert.is(verifyPacketChecksums(packet), true);
      const decoded = decodePacket(packet);
      assert.ok(decoded);
      assert.equal(encodePacket(decoded, payloadOf(packet, decoded)), packet);
    },
  );
}

captured.run();

const properties = suite("packet: for any fields");

properties(
  "given any packet and a dirty buffer, then decoding gives it back and no other byte changed",
  () => {
    fc.assert(
      fc.property(tcpPacket, payload, u8, (packet, content, dirt) => {
        const out = new Uint8Array(100 + content.length).fill(dirt);
        const length = encodePacketInto(out, packet, content);
        assert.is(length, packetLength(packet, content));
        assert.is(verifyPacketChecksums(out.subarray(0, length)), true);
        assert.equal(encodePacket(packet, content), out.slice(0, length));
        const decoded = decodePacket(out, length);
        assert.ok(decoded);
        assert.equal(fieldsOf(decoded), packet);
        assert.equal(payloadOf(out, decoded), content);
        assert.ok(out.every((byte, i) => i < length || byte === dirt));
        out.fill(0);
        assert.equal(fieldsOf(decoded), packet, "the result keeps no reference to the buffer");
      }),
    );
  },
);

properties("given bytes behind the packet, then they do not matter", () => {
  fc.assert(
    fc.property(tcpPacket, payload, u8, fc.nat(60), (packet, content, dirt, padding) => {
      const whole = encodePacket(packet, content);
      const padded = new Uint8Array(whole.length + padding).fill(dirt);
      padded.set(whole);
      assert.equal(decodePacket(padded), decodePacket(whole));
      assert.equal(decodePacket(padded, whole.length), decodePacket(whole));
      assert.is(verifyPacketChecksums(padded), true);
    }),
  );
});

properties("given an end before the packet's own, then undefined though the bytes are there", () => {
  fc.assert(
    fc.property(tcpPacket, payload, fc.nat(), (packet, content, cut) => {
      const whole = encodePacket(packet, content);
      assert.is(decodePacket(whole, cut % whole.length), undefined);
    }),
  );
});

properties("given random bytes, then no throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (noise) => {
      decodePacket(noise);
      verifyPacketChecksums(noise);
    }),
    { numRuns: 1000 },
  );
});

properties.run();

const refused = suite("packet: refused");

for (const [name, packet] of CAPTURES) {
  refused(`given the ${name} cut at every length, then undefined`, () => {
    for (let length = 0; length < packet.length; length++) {
      const cut = packet.slice(0, length);
      assert.is(decodePacket(cut), undefined);
      assert.is(decodePacket(packet, length), undefined);
      assert.is(verifyPacketChecksums(cut), false);
    }
  });
}

for (const end of [-1, 61, 59.5, Number.NaN, Number.POSITIVE_INFINITY]) {
  refused(`given ${end} valid bytes of 60, then undefined`, () => {
    assert.is(decodePacket(V4.syn, end), undefined);
  });
}

for (const [given, at, values] of [
  ["UDP", 9, [17]],
  ["a first fragment", 6, [0x20, 0]],
  ["a last fragment", 6, [0, 1]],
  ["version 5", 0, [0x55]],
] as const) {
  refused(`given ${given}, then undefined and no right checksum`, () => {
    const packet = V4.syn.slice();
    packet.set(values, at);
    assert.is(decodePacket(packet), undefined);
    assert.is(verifyPacketChecksums(packet), false);
  });
}

refused("given any single bit flipped that a checksum covers, then the checksum is wrong", () => {
  // IPv6 has no header checksum: traffic class, flow label and hop limit are free.
  const isCovered = (packet: Uint8Array, bit: number) =>
    packet[0]! >>> 4 === 4 || bit < 4 || (bit >= 32 && bit < 56) || bit >= 64;
  for (const [name, packet] of CAPTURES) {
    for (let bit = 0; bit < packet.length * 8; bit++) {
      const flipped = packet.slice();
      flipped[bit >> 3]! ^= 0x80 >> (bit & 7);
      assert.is(verifyPacketChecksums(flipped), !isCovered(packet, bit), `${name}, bit ${bit}`);
    }
  }
});

refused("given a fragment whose sums are right, then no right checksum, as its segment is not whole", () => {
  for (const fragment of [
    [0x20, 0],
    [0, 1],
  ]) {
    const packet = V4.syn.slice();
    packet.set([...fragment, packet[8]!, packet[9]!, 0, 0], 6);
    const check = checksum(packet, 0, 20);
    packet.set([check >> 8, check & 0xff], 10);
    assert.is(verifyIpv4Checksum(packet, 0, 20), true);
    assert.is(verifyPacketChecksums(packet), false);
  }
});

refused("given sums that are right but no room for a TCP header, then no right checksum", () => {
  // 255.249.0.0 makes the pseudo header of an empty segment sum to ffff.
  const packet = bytes("45000014 00004000 40063aeb fff90000 00000000");
  assert.is(verifyIpv4Checksum(packet, 0, 20), true);
  assert.is(verifyPacketChecksums(packet), false);
});

refused.run();

const encode = suite("packet: caller's bugs");

for (const [name, change] of [
  ["addresses of two families", { src: new Uint8Array(16) }],
  ["addresses of 5 bytes", { src: new Uint8Array(5), dst: new Uint8Array(5) }],
  ["a TTL of 256", { ttl: 256 }],
  ["an id of -1", { id: -1 }],
  ["a sequence number of 2^32", { seq: 2 ** 32 }],
  ["a window scale of 15", { options: { wscale: 15 } }],
] as const) {
  encode(`given ${name}, then a RangeError`, () => {
    assert.throws(() => encodePacketInto(new Uint8Array(100), { ...SYN_ACK, ...change }), isRangeError);
  });
}

encode("given a flow label of 21 bits, then a RangeError", () => {
  const packet = { ...SYN_ACK, src: new Uint8Array(16), dst: new Uint8Array(16), flowLabel: 0x100000 };
  assert.throws(() => encodePacketInto(new Uint8Array(100), packet), isRangeError);
});

encode("given a buffer one byte too small, then a RangeError and nothing written", () => {
  const out = new Uint8Array(packetLength(SYN_ACK) - 1);
  assert.throws(() => encodePacketInto(out, SYN_ACK), isRangeError);
  assert.ok(out.every((byte) => byte === 0));
});

encode("given the largest payload, then it is sent; given one byte more, then a RangeError", () => {
  const v6 = { ...SYN_ACK, src: new Uint8Array(16), dst: new Uint8Array(16) };
  for (const [packet, payloadMax] of [
    [SYN_ACK, 65535 - 20 - 40],
    [v6, 65535 - 40],
  ] as const) {
    const largest = encodePacket(packet, new Uint8Array(payloadMax).fill(0xff));
    assert.is(verifyPacketChecksums(largest), true);
    assert.is(decodePacket(largest)?.payloadEnd, largest.length);
    assert.throws(() => encodePacket(packet, new Uint8Array(payloadMax + 1)), isRangeError);
  }
});

encode.run();

const mutations = suite("packet: mutations");

/** Marsaglia's xorshift32: the same numbers in every run. Returns an integer in 0..below-1. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Valid packets with what the captures lack: header options, extension headers, SACK blocks, padding. */
const SEEDS: readonly Uint8Array[] = [
  ...CAPTURES.map(([, packet]) => packet),
  bytes(
    `4600003c 12344000 40060000 c0000201 c0000207 01010100 e7ae1f90 06cbbac4 f904acb6 9010003f 00000000
     0101050a 0000000a 00000014 03030200`,
  ),
  bytes(
    `600cea31 002c0040 20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000007
     2b000104 00000000 3c000400 00000000 06000104 00000000 bb701f90 9844b045 00000000 5002fd20 00000000`,
  ),
  Uint8Array.from([...V4.ack, ...new Uint8Array(6)]),
];

// Values at which length and offset fields turn.
const EDGES = [
  0, 1, 2, 3, 4, 5, 8, 10, 15, 20, 40, 41, 43, 44, 60, 0x45, 0x50, 0x60, 0x7f, 0x80, 0xf0, 0xfe, 0xff,
];

function mutate(seed: Uint8Array, random: (below: number) => number): Uint8Array {
  let packet = seed.slice();
  for (let changes = 1 + random(4); changes > 0; changes--) {
    const at = random(packet.length);
    switch (random(7)) {
      case 0:
        packet[at]! ^= 1 << random(8);
        break;
      case 1:
        packet[at] = random(256);
        break;
      case 2:
        packet[at] = EDGES[random(EDGES.length)]!;
        break;
      case 3:
        packet = packet.slice(0, at + 1);
        break;
      case 4: {
        const longer = new Uint8Array(packet.length + 1 + random(40)).fill(random(256));
        longer.set(packet);
        packet = longer;
        break;
      }
      case 5:
        packet.copyWithin(at, random(packet.length), packet.length);
        break;
      case 6: {
        // The lengths that decide everything else: version and header length, total length, data offset.
        const headerSize = packet[0]! >>> 4 === 4 ? 20 : 40;
        const field = [0, 2, 3, 4, 5, 6, headerSize + 12][random(7)]!;
        if (field < packet.length)
          packet[field] = random(2) === 0 ? random(256) : EDGES[random(EDGES.length)]!;
        break;
      }
    }
  }
  return packet;
}

/** A second, independent reading of RFC 791, 8200 and 9293: where TCP header, payload and packet must lie. */
function layoutOf(packet: Uint8Array): { tcpStart: number; payloadStart: number; end: number } | undefined {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  let tcpStart: number;
  let end: number;
  if (view.getUint8(0) >> 4 === 4) {
    tcpStart = (view.getUint8(0) % 16) * 4;
    end = view.getUint16(2);
    const isFragment = view.getUint16(6) % 0x4000 !== 0;
    if (isFragment || view.getUint8(9) !== 6 || tcpStart < 20) return undefined;
  } else {
    if (view.getUint8(0) >> 4 !== 6) return undefined;
    tcpStart = 40;
    end = 40 + view.getUint16(4);
    for (let next = view.getUint8(6); next !== 6; ) {
      if (![0, 43, 60].includes(next)) return undefined;
      next = view.getUint8(tcpStart);
      tcpStart += 8 * (1 + view.getUint8(tcpStart + 1));
    }
  }
  const payloadStart = tcpStart + 4 * (view.getUint8(tcpStart + 12) >> 4);
  if (payloadStart < tcpStart + 20 || payloadStart > end || end > packet.length) return undefined;
  return { tcpStart, payloadStart, end };
}

/** Asserts all that must hold of a packet that was accepted. */
function checkAccepted(packet: Uint8Array, decoded: DecodedPacket): void {
  const layout = layoutOf(packet);
  assert.ok(layout, "accepted, but not a whole TCP packet");
  const { tcpStart, payloadStart, end } = layout;
  assert.is(decoded.payloadStart, payloadStart);
  assert.is(decoded.payloadEnd, end);
  const view = new DataView(packet.buffer, packet.byteOffset + tcpStart, 20);
  assert.is(decoded.sport, view.getUint16(0));
  assert.is(decoded.dport, view.getUint16(2));
  assert.is(decoded.seq, view.getUint32(4));
  assert.is(decoded.ack, view.getUint32(8));
  assert.is(decoded.flags, view.getUint8(13));
  assert.is(decoded.window, view.getUint16(14));

  const content = payloadOf(packet, decoded);
  const again = encodePacket(decoded, content);
  assert.is(verifyPacketChecksums(again), true);
  const decodedAgain = decodePacket(again);
  assert.ok(decodedAgain, "accepted, but what it encodes to is refused");
  assert.equal(fieldsOf(decodedAgain), fieldsOf(decoded));
  assert.equal(payloadOf(again, decodedAgain), content);
  assert.equal(decodePacket(packet.slice(0, decoded.payloadEnd)), decoded);
}

mutations("given the seeds themselves, then all are accepted", () => {
  for (const seed of SEEDS) checkAccepted(seed, decodePacket(seed)!);
});

mutations("given 100,000 mutations, then no throw, no wrong acceptance, and 5 s at most", () => {
  const startedAtMs = performance.now();
  const random = generator(0x9e3779b9);
  let accepted = 0;
  let refusedCount = 0;
  for (let i = 0; i < 100_000; i++) {
    const packet = mutate(SEEDS[i % SEEDS.length]!, random);
    try {
      verifyPacketChecksums(packet);
      const decoded = decodePacket(packet);
      if (decoded === undefined) {
        refusedCount++;
        continue;
      }
      accepted++;
      checkAccepted(packet, decoded);
    } catch (cause) {
      throw new Error(`mutation ${i}: ${Buffer.from(packet).toString("hex")}`, { cause });
    }
  }
  // Neither outcome may be rare, or the run says nothing about it.
  assert.ok(accepted > 10_000, `accepted ${accepted}`);
  assert.ok(refusedCount > 10_000, `refused ${refusedCount}`);
  assert.ok(performance.now() - startedAtMs < 5000);
});

mutations.run();
