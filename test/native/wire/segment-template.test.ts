// Goal: a filled template is the packet that encoding all of it gives. Method: both, for any packet and fields.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { encodePacket } from "../../../native/wire/packet.ts";
import { SegmentTemplate } from "../../../native/wire/segment-template.ts";
import { tcpPacket, u16, u32 } from "./arbitraries.ts";

const label = fc.integer({ min: 0, max: 0xfffff });

const template = suite("segment template");

template("given any packet and fields, filled in twice, then it is as if encoded with the last ones", () => {
  fc.assert(
    fc.property(
      tcpPacket,
      fc.tuple(u16, u32, u32, label),
      fc.tuple(u16, u32, u32, label),
      (packet, first, last) => {
        const filled = new SegmentTemplate(packet);
        filled.fill(...first);
        const [sport, seq, tsval, flowLabel] = last;
        const options = packet.options.tsval === undefined ? packet.options : { ...packet.options, tsval };
        const want = encodePacket({ ...packet, sport, seq, options, id: flowLabel & 0xffff, flowLabel });
        assert.equal(filled.fill(sport, seq, tsval, flowLabel), want);
      },
    ),
  );
});

template.run();
