import type { ImpairmentSettings } from "./impairment.ts";

/** 0 or 1: which end of a link, in the order its hosts were named. */
export type End = 0 | 1;

/** A link as both processes know it. */
export interface LinkPlan {
  readonly hosts: readonly [string, string];
  /** The interface at each end: a host's first link is wan0, its second wan1. */
  readonly interfaces: readonly [string, string];
  readonly mtu: number;
  readonly queuePackets: number;
  readonly settings: Partial<ImpairmentSettings>;
}

export interface LabPlan {
  readonly hosts: readonly string[];
  readonly forward: readonly string[];
  readonly links: readonly LinkPlan[];
}

export interface LinkAddress {
  readonly text: string;
  readonly bytes: Uint8Array;
  readonly prefixLength: number;
}

/** The address of one end: 10.77.LINK.1 or .2 of a /24, fd77:0:0:LINK::1 or ::2 of a /64. */
export function linkAddress(link: number, end: End, family: 4 | 6): LinkAddress {
  if (family === 4) {
    const bytes = Uint8Array.of(10, 77, link, end + 1);
    return { text: bytes.join("."), bytes, prefixLength: 24 };
  }
  const bytes = new Uint8Array(16);
  bytes.set([0xfd, 0x77], 0);
  bytes[7] = link;
  bytes[15] = end + 1;
  const network = link === 0 ? "fd77" : `fd77:0:0:${link.toString(16)}`;
  return { text: `${network}::${end + 1}`, bytes, prefixLength: 64 };
}

/** Links a lab may have: the third byte of the IPv4 addresses counts them. */
export const LINKS_MAX = 256;
