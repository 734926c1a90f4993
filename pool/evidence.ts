/** What a socket made of a half-open says itself about whether its connection exists. */
import { getTcpInfo } from "../native/sockopt.ts";

/**
 * What a failed socket itself must say before a reset's own evidence is looked at: one segment left it, once,
 * and nothing came back (DESIGN section 6). A second segment or a retransmission may have met a connection
 * that existed.
 */
export function sentOneSegmentOnly(fd: number): boolean {
  try {
    const { segsOut, totalRetrans, bytesAcked, bytesReceived } = getTcpInfo(fd);
    return segsOut === 1 && totalRetrans === 0 && bytesAcked === 0 && bytesReceived === 0;
  } catch {
    return false; // without TCP_INFO nothing is proven
  }
}

/** True when the peer has acknowledged something. */
export function isAcknowledged(fd: number): boolean {
  try {
    return getTcpInfo(fd).bytesAcked > 0;
  } catch {
    return false;
  }
}
