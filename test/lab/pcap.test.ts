// Goal: what was written is read again, to the nanosecond, and by others too.
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PcapWriter, readPcap } from "../../bench/lab/pcap.ts";
import { encodePacket } from "../../native/wire/packet.ts";
import { SYN } from "../../native/wire/tcp.ts";

const pcap = suite<{ directory: string }>("lab: pcap");
pcap.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), "pcap-"));
});
pcap.after.each(({ directory }) => rmSync(directory, { recursive: true }));

const segment = {
  src: Uint8Array.of(10, 77, 0, 1),
  dst: Uint8Array.of(10, 77, 0, 2),
  ttl: 64,
  sport: 4000,
  dport: 80,
  seq: 7,
  ack: 0,
  flags: SYN,
  window: 100,
  options: { mss: 1460 },
};

pcap("given packets, then they come back with their times", ({ directory }) => {
  const path = join(directory, "a.pcap");
  const syn = encodePacket(segment);
  const writer = new PcapWriter(path, 1_700_000_000_250.5);
  writer.append(0, syn);
  writer.append(749.5, Uint8Array.of(1, 2, 3));
  writer.append(60_000.000001, new Uint8Array(0));
  writer.close();
  const packets = readPcap(path);
  assert.equal(
    packets.map(({ timeNs }) => timeNs),
    [1_700_000_000_250_500_000n, 1_700_000_001_000_000_000n, 1_700_000_060_250_500_001n],
  );
  assert.equal(
    packets.map(({ bytes }) => bytes.length),
    [syn.length, 3, 0],
  );
  assert.is(packets[0]?.tcp?.seq, 7);
  assert.is(packets[0]?.tcp?.options.mss, 1460);
  assert.is(packets[1]?.tcp, undefined);
  assert.is(packets[1]?.timeMs, 1_700_000_001_000);
});

pcap("given more than its buffer holds, then all of it is in the file", ({ directory }) => {
  const path = join(directory, "a.pcap");
  const writer = new PcapWriter(path);
  for (let index = 0; index < 2000; index++) writer.append(index, new Uint8Array(1500).fill(index));
  writer.close();
  const packets = readPcap(path);
  assert.is(packets.length, 2000);
  for (const [index, { bytes }] of packets.entries()) assert.is(bytes[1499], index & 0xff);
});

pcap("given microseconds in the other byte order, then it is read too", ({ directory }) => {
  const path = join(directory, "a.pcap");
  const file = Buffer.alloc(24 + 16 + 2);
  file.writeUInt32BE(0xa1b2c3d4, 0);
  file.writeUInt32BE(101, 20);
  file.writeUInt32BE(5, 24);
  file.writeUInt32BE(6, 28);
  file.writeUInt32BE(2, 32);
  writeFileSync(path, file);
  assert.equal(
    readPcap(path).map(({ timeNs }) => timeNs),
    [5_000_006_000n],
  );
});

pcap("given a file that is none or is cut off, then it says so", ({ directory }) => {
  const path = join(directory, "a.pcap");
  const writer = new PcapWriter(path);
  writer.append(1, new Uint8Array(100));
  writer.close();
  truncateSync(path, readFileSync(path).length - 1);
  assert.throws(() => readPcap(path), /ends inside a packet/);
  writeFileSync(path, "x".repeat(100));
  assert.throws(() => readPcap(path), /no pcap file/);
  writeFileSync(path, "");
  assert.throws(() => readPcap(path), /too short/);
});
pcap.run();
