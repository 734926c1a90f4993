import fc from "fast-check";
import type { TcpPacket } from "../../../native/wire/packet.ts";
import type { TcpSegment } from "../../../native/wire/tcp.ts";
import type { TcpOptions } from "../../../native/wire/tcp-options.ts";

/** What the encoders accept, over the whole range of every field, biased to the ends by fast-check. */

// Objects with the prototype that literals have: assert.equal() compares that too.
const PLAIN = { noNullPrototype: true } as const;

export const u8 = fc.integer({ min: 0, max: 0xff });
export const u16 = fc.integer({ min: 0, max: 0xffff });
export const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
export const ipv4Bytes = fc.uint8Array({ minLength: 4, maxLength: 4 });
export const ipv6Bytes = fc.uint8Array({ minLength: 16, maxLength: 16 });
export const payload = fc.uint8Array({ maxLength: 1460 });

/** Canonical: absent options are absent keys, timestamps come in pairs. */
export const tcpOptions: fc.Arbitrary<TcpOptions> = fc
  .tuple(
    fc.option(fc.record({ mss: fc.integer({ min: 1, max: 0xffff }) })),
    fc.option(fc.record({ wscale: fc.integer({ min: 0, max: 14 }) })),
    fc.option(fc.constant({ sackPermitted: true })),
    fc.option(fc.record({ tsval: u32, tsecr: u32 })),
  )
  .map(([mss, wscale, sack, timestamps]) => ({ ...mss, ...wscale, ...sack, ...timestamps }));

const segmentFields = {
  sport: u16,
  dport: u16,
  seq: u32,
  ack: u32,
  flags: u8,
  window: u16,
  options: tcpOptions,
};

export const tcpSegment: fc.Arbitrary<TcpSegment> = fc.record(segmentFields, PLAIN);

export const tcpPacket: fc.Arbitrary<TcpPacket> = fc.oneof(
  fc.record({ ...segmentFields, src: ipv4Bytes, dst: ipv4Bytes, ttl: u8, id: u16 }, PLAIN),
  fc.record(
    {
      ...segmentFields,
      src: ipv6Bytes,
      dst: ipv6Bytes,
      ttl: u8,
      flowLabel: fc.integer({ min: 0, max: 0xfffff }),
    },
    PLAIN,
  ),
);
