/**
 * Packets of two Linux 6.18 kernels, taken with an AF_PACKET socket on a veth pair between two network
 * namespaces, checksum offload off, so that every checksum is the one on the wire. The client fetches
 * "hi\n" from port 8080 with an HTTP/1.0 request.
 */

export function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ""), "hex"));
}

/** 192.0.2.1 → 192.0.2.7, default sysctls. */
export const V4 = {
  syn: bytes(
    `4500003c 300f4000 400686a4 c0000201 c0000207 e7ae1f90 06cbbac3 00000000 a002faf0 7c450000
     020405b4 0402080a 1d2d66c3 00000000 0103030a`,
  ),
  synAck: bytes(
    `4500003c 00004000 4006b6b3 c0000207 c0000201 1f90e7ae f904acb5 06cbbac4 a012fe88 10890000
     020405b4 0402080a 66045c54 1d2d66c3 0103030a`,
  ),
  ack: bytes(
    `45000034 30104000 400686ab c0000201 c0000207 e7ae1f90 06cbbac4 f904acb6 8010003f 3da20000
     0101080a 1d2d66c3 66045c54`,
  ),
  request: bytes(
    `45000046 30114000 40068698 c0000201 c0000207 e7ae1f90 06cbbac4 f904acb6 8018003f 5ee80000
     0101080a 1d2d66c3 66045c54 47455420 2f204854 54502f31 2e300d0a 0d0a`,
  ),
  response: bytes(
    `45000037 cc684000 4006ea4f c0000207 c0000201 1f90e7ae f904acb6 06cbbad6 80180040 cb1a0000
     0101080a 66045c54 1d2d66c3 68690a`,
  ),
  fin: bytes(
    `45000034 30134000 400686a8 c0000201 c0000207 e7ae1f90 06cbbad6 f904acb9 8011003f 3d8c0000
     0101080a 1d2d66c3 66045c54`,
  ),
} as const;

/** 2001:db8::1 → 2001:db8::7, default sysctls. */
export const V6 = {
  syn: bytes(
    `600cea31 00280640 20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000007
     bb701f90 9844b045 00000000 a002fd20 e0a20000 020405a0 0402080a 9dc24d86 00000000 0103030a`,
  ),
  synAck: bytes(
    `6000cb11 00280640 20010db8 00000000 00000000 00000007 20010db8 00000000 00000000 00000001
     1f90bb70 b3caf8fc 9844b046 a012fb04 0d3e0000 020405a0 0402080a 94ca93dd 9dc24d86 0103030a`,
  ),
  ack: bytes(
    `600cea31 00200640 20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000007
     bb701f90 9844b046 b3caf8fd 80100040 36be0000 0101080a 9dc24d86 94ca93dd`,
  ),
  request: bytes(
    `600cea31 00320640 20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000007
     bb701f90 9844b046 b3caf8fd 80180040 58040000 0101080a 9dc24d86 94ca93dd
     47455420 2f204854 54502f31 2e300d0a 0d0a`,
  ),
  response: bytes(
    `6000cb11 00230640 20010db8 00000000 00000000 00000007 20010db8 00000000 00000000 00000001
     1f90bb70 b3caf8fd 9844b058 8018003f c4380000 0101080a 94ca93dd 9dc24d86 68690a`,
  ),
  fin: bytes(
    `600cea31 00200640 20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000007
     bb701f90 9844b058 b3caf900 80110040 36a80000 0101080a 9dc24d86 94ca93dd`,
  ),
} as const;

/** The client's SYN for every combination of tcp_timestamps, tcp_sack and tcp_window_scaling. */
export const SYN_BY_SYSCTL = [
  {
    sysctl: "timestamps=1 sack=1 window_scaling=1",
    options: { mss: 1460, sackPermitted: true, tsval: 0x62106a4c, tsecr: 0, wscale: 10 },
    packet: bytes(
      `4500003c 96214000 40062092 c0000201 c0000207 e7b21f90 67c60ce9 00000000 a002faf0 80b40000
       020405b4 0402080a 62106a4c 00000000 0103030a`,
    ),
  },
  {
    sysctl: "timestamps=1 sack=1 window_scaling=0",
    options: { mss: 1460, sackPermitted: true, tsval: 0xad9aa0c3, tsecr: 0 },
    packet: bytes(
      `45000038 b0fb4000 400605bc c0000201 c0000207 e7bc1f90 da6ab8eb 00000000 9002faf0 f4120000
       020405b4 0402080a ad9aa0c3 00000000`,
    ),
  },
  {
    sysctl: "timestamps=1 sack=0 window_scaling=1",
    options: { mss: 1460, tsval: 0xd89c0340, tsecr: 0, wscale: 10 },
    packet: bytes(
      `4500003c c60d4000 4006f0a5 c0000201 c0000207 e7c01f90 047853b7 00000000 a002faf0 90a70000
       020405b4 0101080a d89c0340 00000000 0103030a`,
    ),
  },
  {
    sysctl: "timestamps=1 sack=0 window_scaling=0",
    options: { mss: 1460, tsval: 0x8ec28fd1, tsecr: 0 },
    packet: bytes(
      `45000038 afb94000 400606fe c0000201 c0000207 e7c81f90 29150666 00000000 9002faf0 8aad0000
       020405b4 0101080a 8ec28fd1 00000000`,
    ),
  },
  {
    sysctl: "timestamps=0 sack=1 window_scaling=1",
    options: { mss: 1460, sackPermitted: true, wscale: 10 },
    packet: bytes(
      `45000034 6bbc4000 40064aff c0000201 c0000207 e7d01f90 665ad4df 00000000 8002faf0 ad790000
       020405b4 01010402 0103030a`,
    ),
  },
  {
    sysctl: "timestamps=0 sack=1 window_scaling=0",
    options: { mss: 1460, sackPermitted: true },
    packet: bytes(
      `45000030 76874000 40064038 c0000201 c0000207 e7de1f90 66ad39a9 00000000 7002faf0 5c600000
       020405b4 01010402`,
    ),
  },
  {
    sysctl: "timestamps=0 sack=0 window_scaling=1",
    options: { mss: 1460, wscale: 10 },
    packet: bytes(
      `45000030 ec774000 4006ca47 c0000201 c0000207 e7e41f90 36a3c58f 00000000 7002faf0 01740000
       020405b4 0103030a`,
    ),
  },
  {
    sysctl: "timestamps=0 sack=0 window_scaling=0",
    options: { mss: 1460 },
    packet: bytes(
      `4500002c 65c44000 400650ff c0000201 c0000207 e7ec1f90 5a01a1d0 00000000 6002faf0 15de0000
       020405b4`,
    ),
  },
] as const;
