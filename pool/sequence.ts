/**
 * Initial sequence numbers and TSval clocks.
 *
 * RFC 6528: iss = M + F(connection, secret), M a 4 µs clock. RFC 7323 section 5.4: one TSval clock per
 * destination, offset by a secret. Both grow for each use of a tuple, so that a port can be used again
 * while the upstream still has it in TIME_WAIT (RFC 6191). The secret is derived from the boot, so that
 * this holds for the next process too.
 */
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Endpoint } from "../native/address.ts";
import { formatEndpoint } from "../native/address.ts";

const ISN_CLOCK_PER_MS = 250; // 4 µs

/** A secret that lasts from boot to boot, or a random one where the machine does not tell. */
export function bootSecret(): Uint8Array {
  try {
    const hash = createHash("sha256").update("accelproxy sequence numbers");
    hash.update(readFileSync("/proc/sys/kernel/random/boot_id"));
    return hash.update(readFileSync("/etc/machine-id")).digest();
  } catch {
    return randomBytes(32);
  }
}

export class SequenceSource {
  readonly tsOffset: number;
  readonly #key0: number;
  readonly #key1: number;

  /** Numbers for connections to one destination, from this host's address or from `source`. */
  constructor(secret: Uint8Array, destination: Endpoint, source = "") {
    const hash = createHash("sha256").update(secret).update(formatEndpoint(destination));
    const digest = hash.update(source).digest();
    this.tsOffset = digest.readUInt32LE(0);
    this.#key0 = digest.readUInt32LE(4);
    this.#key1 = digest.readUInt32LE(8);
  }

  /** iss of a connection from `port` opened at `nowMs`. */
  iss(port: number, nowMs: number): number {
    const clock = Math.trunc(nowMs * ISN_CLOCK_PER_MS) >>> 0;
    return (clock + halfSipHash(this.#key0, this.#key1, port)) >>> 0;
  }
}

/**
 * TSval at `nowMs` for a clock of this offset, always even: bit 0 switches a restored socket to a µs clock
 * (net/ipv4/tcp.c, TCP_TIMESTAMP).
 */
export function tsvalAt(nowMs: number, tsOffset: number): number {
  return ((Math.trunc(nowMs) + tsOffset) & ~1) >>> 0;
}

const rotl = (x: number, bits: number) => (x << bits) | (x >>> (32 - bits));

/** HalfSipHash-2-4 of one 32-bit word (Aumasson and Bernstein; lib/siphash.c hsiphash_1u32 on 32-bit). */
function halfSipHash(key0: number, key1: number, word: number): number {
  let v0 = key0;
  let v1 = key1;
  let v2 = 0x6c796765 ^ key0;
  let v3 = 0x74656462 ^ key1;
  const round = () => {
    v0 = (v0 + v1) | 0;
    v1 = rotl(v1, 5) ^ v0;
    v0 = rotl(v0, 16);
    v2 = (v2 + v3) | 0;
    v3 = rotl(v3, 8) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = rotl(v3, 7) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = rotl(v1, 13) ^ v2;
    v2 = rotl(v2, 16);
  };
  const last = 4 << 24; // message length in the top byte
  v3 ^= word;
  round();
  round();
  v0 ^= word;
  v3 ^= last;
  round();
  round();
  v0 ^= last;
  v2 ^= 0xff;
  round();
  round();
  round();
  round();
  return (v1 ^ v3) >>> 0;
}
