/**
 * The socket options a connection takes along: one row each, and everything else follows from the rows: what is
 * read, what an image may contain, when and how it is set again, and the table of docs/socket-options.md.
 *
 * The order of the rows is the order in which they are set: IP_TOS changes the priority, so SO_PRIORITY follows.
 */
import * as so from "../abi/socket.ts";
import * as tcp from "../abi/tcp.ts";

/** `integer`: an int. `linger`: seconds, -1 when off. `text`: a name. `buffer`: bytes as the kernel counts them. */
export type OptionKind = "integer" | "linger" | "text" | "buffer";

/**
 * `connect`: before bind and connect, which depend on it. `queues`: after the queues, which it would disturb.
 * `window`: after the windows. `repair`: after repair mode, which overwrites it.
 */
export type OptionMoment = "connect" | "queues" | "window" | "repair";

export interface OptionRow {
  readonly name: string;
  readonly level: number;
  readonly code: number;
  readonly kind: OptionKind;
  readonly moment: OptionMoment;
  /** The packets the option is about: of IPv4, of IPv6 or of both. */
  readonly ip?: 4 | 6;
  /** Where setting takes another code than reading. */
  readonly setCode?: number;
  /** The kernel changes it while the connection lives. */
  readonly changes?: true;
  /** The kernel sets it by the route or the SYN, or a server by the client, so that like connections may differ. */
  readonly differs?: true;
  /** Setting that option changes this one. */
  readonly follows?: string;
}

const { SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP } = so;
const early = { kind: "integer", moment: "connect" } as const;
const socketLevel = { ...early, level: SOL_SOCKET } as const;
const ip4 = { ...early, level: IPPROTO_IP, ip: 4 } as const;
const ip6 = { ...early, level: IPPROTO_IPV6, ip: 6 } as const;
const tcpLevel = { ...early, level: IPPROTO_TCP } as const;
const text = { kind: "text", moment: "connect" } as const;
const buffer = { level: SOL_SOCKET, kind: "buffer", moment: "queues", changes: true } as const;

const ROWS = [
  { name: "SO_BINDTODEVICE", level: SOL_SOCKET, code: so.SO_BINDTODEVICE, ...text },
  { name: "IP_TRANSPARENT", code: so.IP_TRANSPARENT, ...early, level: IPPROTO_IP, differs: true },
  { name: "IP_FREEBIND", code: so.IP_FREEBIND, ...early, level: IPPROTO_IP, differs: true },
  { name: "SO_MARK", code: so.SO_MARK, ...socketLevel, differs: true },
  { name: "SO_DONTROUTE", code: so.SO_DONTROUTE, ...socketLevel },
  { name: "IP_TOS", code: so.IP_TOS, ...ip4, differs: true },
  { name: "IP_TTL", code: so.IP_TTL, ...ip4 },
  { name: "IP_MTU_DISCOVER", code: so.IP_MTU_DISCOVER, ...ip4 },
  { name: "IPV6_TCLASS", code: so.IPV6_TCLASS, ...ip6, differs: true },
  { name: "IPV6_UNICAST_HOPS", code: so.IPV6_UNICAST_HOPS, ...ip6 },
  { name: "IPV6_MTU_DISCOVER", code: so.IPV6_MTU_DISCOVER, ...ip6 },
  { name: "SO_PRIORITY", code: so.SO_PRIORITY, ...socketLevel, follows: "IP_TOS" },
  { name: "SO_KEEPALIVE", code: so.SO_KEEPALIVE, ...socketLevel },
  { name: "SO_OOBINLINE", code: so.SO_OOBINLINE, ...socketLevel },
  { name: "SO_LINGER", level: SOL_SOCKET, code: so.SO_LINGER, kind: "linger", moment: "connect" },
  { name: "TCP_CONGESTION", level: IPPROTO_TCP, code: tcp.TCP_CONGESTION, ...text, differs: true },
  { name: "TCP_NODELAY", code: tcp.TCP_NODELAY, ...tcpLevel },
  { name: "TCP_KEEPIDLE", code: tcp.TCP_KEEPIDLE, ...tcpLevel },
  { name: "TCP_KEEPINTVL", code: tcp.TCP_KEEPINTVL, ...tcpLevel },
  { name: "TCP_KEEPCNT", code: tcp.TCP_KEEPCNT, ...tcpLevel },
  { name: "TCP_SYNCNT", code: tcp.TCP_SYNCNT, ...tcpLevel },
  { name: "TCP_LINGER2", code: tcp.TCP_LINGER2, ...tcpLevel },
  { name: "TCP_USER_TIMEOUT", code: tcp.TCP_USER_TIMEOUT, ...tcpLevel },
  { name: "TCP_NOTSENT_LOWAT", code: tcp.TCP_NOTSENT_LOWAT, ...tcpLevel },
  { name: "SO_RCVLOWAT", code: so.SO_RCVLOWAT, ...socketLevel, moment: "queues" },
  { name: "TCP_CORK", code: tcp.TCP_CORK, ...tcpLevel, moment: "queues" },
  { name: "SO_SNDBUF", code: so.SO_SNDBUF, setCode: so.SO_SNDBUFFORCE, ...buffer },
  { name: "SO_RCVBUF", code: so.SO_RCVBUF, setCode: so.SO_RCVBUFFORCE, ...buffer },
  // Which of the two the application has fixed; setting them fixes both.
  { name: "SO_BUF_LOCK", code: so.SO_BUF_LOCK, ...socketLevel, moment: "queues", follows: "SO_SNDBUF" },
  { name: "TCP_WINDOW_CLAMP", code: tcp.TCP_WINDOW_CLAMP, ...tcpLevel, moment: "window", changes: true },
  { name: "SO_REUSEADDR", code: so.SO_REUSEADDR, ...socketLevel, moment: "repair" },
  { name: "SO_REUSEPORT", code: so.SO_REUSEPORT, ...socketLevel, moment: "repair" },
  { name: "TCP_QUICKACK", code: tcp.TCP_QUICKACK, ...tcpLevel, moment: "repair", changes: true },
] as const satisfies readonly OptionRow[];

export type OptionName = (typeof ROWS)[number]["name"];

/** One option of a connection: a number, or text where the row's kind says so. */
export interface OptionValue {
  readonly name: OptionName;
  readonly value: number | string;
}

/** All of them, in the order in which they are set. */
export const OPTION_ROWS: readonly (OptionRow & { readonly name: OptionName })[] = ROWS;
const byName = new Map<string, OptionRow>(OPTION_ROWS.map((row) => [row.name, row]));

/** The row of an option by its kernel name; undefined for one that is not taken along. */
export function optionRow(name: string): OptionRow | undefined {
  return byName.get(name);
}
