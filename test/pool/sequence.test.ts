// Goal: sequence numbers and TSvals that a server accepts over its TIME_WAIT: growing, and of a clock of their own.
// Method: HalfSipHash-2-4 vectors of its reference C code (github.com/veorq/SipHash), for the keys that SHA-256
// makes of the secret and the destination; growth by the clock.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { bootSecret, SequenceSource, tsvalAt } from "../../pool/sequence.ts";

const SECRET = Uint8Array.from({ length: 32 }, (_, index) => index);
const V4 = { address: "10.77.0.2", port: 8080 };
const V6 = { address: "fd77::2", port: 443 };

const sequence = suite("sequence numbers");

for (const { to, tsOffset, vectors } of [
  {
    to: V4,
    tsOffset: 1_932_445_341,
    vectors: [
      [0, 3_470_326_429],
      [1, 3_924_495_741],
      [1_024, 35_186_785],
      [40_000, 21_021_680],
      [65_535, 1_030_497_069],
      [0x03020100, 608_184_294],
    ],
  },
  {
    to: V6,
    tsOffset: 1_096_759_901,
    vectors: [
      [0, 1_231_305_915],
      [1, 4_140_694_382],
      [1_024, 1_734_246_402],
      [40_000, 1_432_478_122],
      [65_535, 3_959_115_704],
      [0x03020100, 2_949_242_900],
    ],
  },
]) {
  sequence(`given ${to.address}, then at time 0 the reference's hashes of the ports`, () => {
    const source = new SequenceSource(SECRET, to);
    assert.is(source.tsOffset, tsOffset);
    for (const [port, hash] of vectors) assert.is(source.iss(port!, 0), hash);
  });
}

sequence("given time, then iss grows by one in 4 µs and wraps (RFC 6528)", () => {
  const source = new SequenceSource(SECRET, V4);
  const start = source.iss(40_000, 1_000_000);
  for (const laterMs of [0.004, 1, 1_000, 60_000, 4_000_000]) {
    const growth = (source.iss(40_000, 1_000_000 + laterMs) - start) >>> 0;
    assert.is(growth, Math.round(laterMs * 250) >>> 0);
  }
});

sequence("given another process after this one, then the same numbers go on", () => {
  const [first, second] = [bootSecret(), bootSecret()];
  assert.equal(first, second);
  assert.is(new SequenceSource(first, V4).iss(1, 5), new SequenceSource(second, V4).iss(1, 5));
});

sequence("given other ports, destinations or secrets, then other numbers", () => {
  const source = new SequenceSource(SECRET, V4);
  const numbers = new Set(Array.from({ length: 10_000 }, (_, port) => source.iss(port, 0)));
  assert.ok(numbers.size > 9_990);
  assert.is.not(new SequenceSource(SECRET, { ...V4, port: 8081 }).iss(1, 0), source.iss(1, 0));
  assert.is.not(new SequenceSource(Uint8Array.of(1), V4).iss(1, 0), source.iss(1, 0));
});

sequence("given time, then TSval is even, never goes back and wraps", () => {
  for (const offset of [0, 1, 0x7fff_fffe, 0xffff_ffff, 1_932_445_341]) {
    let last = tsvalAt(0, offset);
    for (let ms = 0; ms < 5_000; ms += 0.7) {
      const tsval = tsvalAt(ms, offset);
      assert.is(tsval & 1, 0);
      assert.ok(tsval >= 0 && tsval <= 0xffff_ffff);
      assert.ok(((tsval - last) | 0) >= 0, `${last} before ${tsval}`);
      last = tsval;
    }
    assert.ok(Math.abs(((last - tsvalAt(0, offset)) >>> 0) - 5_000) <= 2);
  }
});

sequence("given years since boot, then TSval still advances by the millisecond", () => {
  const ms = 3e11;
  assert.is((tsvalAt(ms + 10, 7) - tsvalAt(ms, 7)) | 0, 10);
});

sequence.run();
