// Goal: announcements are what RFC 5227 and RFC 4861 say. Method: whole frames, byte by byte, with a sum that comes out.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checksum, pseudoHeaderSum } from "../../../native/wire/checksum.ts";
import { encodeAnnouncement } from "../../../native/wire/neighbour.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 7);
const neighbour = suite("neighbour: announcement");

neighbour("given IPv4, then a gratuitous ARP request to everybody", () => {
  assert.equal(
    [...encodeAnnouncement(MAC, Uint8Array.of(10, 9, 0, 100))],
    [
      ...[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ...MAC, 8, 6],
      ...[0, 1, 8, 0, 6, 4, 0, 1],
      ...[...MAC, 10, 9, 0, 100],
      ...[0, 0, 0, 0, 0, 0, 10, 9, 0, 100],
    ],
  );
});

neighbour("given IPv6, then an unsolicited advertisement to all nodes, which overrides", () => {
  const address = Uint8Array.of(0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9);
  const frame = encodeAnnouncement(MAC, address);
  assert.is(frame.length, 14 + 40 + 32);
  assert.equal([...frame.subarray(0, 14)], [0x33, 0x33, 0, 0, 0, 1, ...MAC, 0x86, 0xdd]);
  assert.equal([...frame.subarray(18, 22)], [0, 32, 58, 255]);
  assert.equal(frame.subarray(22, 38), address);
  assert.equal([...frame.subarray(54, 56), ...frame.subarray(58, 62)], [136, 0, 0x20, 0, 0, 0]);
  assert.equal(frame.subarray(62, 78), address);
  assert.equal([...frame.subarray(78)], [2, 1, ...MAC]);
  assert.is(checksum(frame, 54, frame.length, pseudoHeaderSum(frame, 22, 16, 58, 32)), 0);
});

neighbour.run();
