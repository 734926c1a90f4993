/**
 * The guard's table as nft text; pure.
 *
 *   input   ──▶ mark? accept ─▶ saddr.sport.daddr.dport in v4 or v6? ─▶ away: drop
 *   forward ──▶                 the same: packets for a socket with another host's address, once it is closed
 *   output  ──▶ mark? accept ─▶ daddr.dport.saddr.sport in v4 or v6? ─▶ away: drop
 *
 * One element, (remote, local), serves both directions. The elements are verdicts that go to a chain, not members
 * of a plain set, because then the kernel refuses to delete that chain while there is an element: the table can be
 * deleted exactly when it is empty, whoever else adds to it at the same moment. `input` rather than `prerouting`,
 * because there fragments are whole and addresses are the socket's, also behind destination NAT. Priority raw:
 * before filters, and in `output` before connection tracking.
 *
 * Read nft(8), "Verdict maps", and net/netfilter/nf_tables_api.c:nf_tables_delchain() first.
 */
import { formatAddress, parseAddress } from "../address.ts";
import { onTheWire } from "../repair/held.ts";
import type { TcpEnd } from "../repair/image.ts";

/** Packets with this mark (SO_MARK) pass the guard: those that we send ourselves to a connection in it. */
export const GUARD_MARK = 0x6170_6731;
/**
 * The same for what we let arrive at our own sockets. Another mark, since where such a socket has another host's address, routing
 * has to bring them here, and the others to that host.
 */
export const FEED_MARK = 0x6170_6732;

/** A connection as the guard knows it; a TcpImage is one too. */
export interface GuardedTuple {
  readonly local: TcpEnd;
  readonly remote: TcpEnd;
}

/** The table, in each network namespace; family inet. */
export const GUARD_TABLE = "accelproxy_guard";
const TABLE = `inet ${GUARD_TABLE}`;

const MAPS = ["v4", "v6"] as const;
type MapName = (typeof MAPS)[number];

const CREATE = `create table ${TABLE}
add map ${TABLE} v4 { type ipv4_addr . inet_service . ipv4_addr . inet_service : verdict ; flags timeout ; }
add map ${TABLE} v6 { type ipv6_addr . inet_service . ipv6_addr . inet_service : verdict ; flags timeout ; }
add chain ${TABLE} away
add rule ${TABLE} away drop
add chain ${TABLE} input { type filter hook input priority raw ; }
add rule ${TABLE} input meta mark { ${GUARD_MARK}, ${FEED_MARK} } accept
add rule ${TABLE} input ip saddr . tcp sport . ip daddr . tcp dport vmap @v4
add rule ${TABLE} input ip6 saddr . tcp sport . ip6 daddr . tcp dport vmap @v6
add chain ${TABLE} forward { type filter hook forward priority raw ; }
add rule ${TABLE} forward ip saddr . tcp sport . ip daddr . tcp dport vmap @v4
add rule ${TABLE} forward ip6 saddr . tcp sport . ip6 daddr . tcp dport vmap @v6
add chain ${TABLE} output { type filter hook output priority raw ; }
add rule ${TABLE} output meta mark { ${GUARD_MARK}, ${FEED_MARK} } accept
add rule ${TABLE} output ip daddr . tcp dport . ip saddr . tcp sport vmap @v4
add rule ${TABLE} output ip6 daddr . tcp dport . ip6 saddr . tcp sport vmap @v6
`;

/**
 * Adds to a table that exists (else ENOENT), until removed or for `lifetimeS` seconds. An element that is there already
 * is no error; which of the two lifetimes it has then depends on the kernel.
 */
export function addCommands(tuples: readonly GuardedTuple[], lifetimeS?: number): string {
  const timeout = lifetimeS === undefined ? "" : ` timeout ${lifetimeS}s`;
  return elementCommands("add", tuples, `${timeout} : goto away`);
}

/** Makes the table, which must not exist (else EEXIST), with these elements. */
export function createCommands(tuples: readonly GuardedTuple[], lifetimeS?: number): string {
  return CREATE + addCommands(tuples, lifetimeS);
}

/** As addCommands(), and what is there already gets the lifetime too, with no packet let through. */
export function keepCommands(tuples: readonly GuardedTuple[], lifetimeS?: number): string {
  return addCommands(tuples) + removeCommands(tuples) + addCommands(tuples, lifetimeS);
}

/** Deletes elements, each of which must be there (else ENOENT). */
export function removeCommands(tuples: readonly GuardedTuple[]): string {
  return elementCommands("delete", tuples, "");
}

/** Deletes the table if it has no element (else EBUSY). ENOENT: there is none. */
export const DROP_COMMANDS = `delete chain ${TABLE} away\ndelete table ${TABLE}\n`;

/** Prints the table with all elements, for parseElements(). ENOENT: there is no table. */
export const LIST_COMMANDS = `list table ${TABLE}\n`;

function elementCommands(verb: string, tuples: readonly GuardedTuple[], suffix: string): string {
  const elements: Record<MapName, Set<string>> = { v4: new Set(), v6: new Set() };
  for (const tuple of tuples) {
    const { map, key } = elementOf(tuple);
    elements[map].add(key + suffix);
  }
  return MAPS.filter((map) => elements[map].size > 0)
    .map((map) => `${verb} element ${TABLE} ${map} { ${[...elements[map]].join(", ")} }\n`)
    .join("");
}

/** The tuple as nft prints it, the same text for the same packets. */
export function elementKey(tuple: GuardedTuple): string {
  return elementOf(tuple).key;
}

/** Throws RangeError for ends of different families. */
function elementOf({ local, remote }: GuardedTuple): { map: MapName; key: string } {
  const [ours, theirs] = [onTheWire(local.address), onTheWire(remote.address)];
  if (ours.length !== theirs.length) throw new RangeError("a connection has both ends in one address family");
  const key = `${formatAddress(theirs)} . ${remote.port} . ${formatAddress(ours)} . ${local.port}`;
  return { map: ours.length === 4 ? "v4" : "v6", key };
}

const ELEMENT =
  /([0-9a-f.:]+) \. ([0-9]+) \. ([0-9a-f.:]+) \. ([0-9]+)(?: timeout \w+)?(?: expires \w+)? : goto away/g;

/** Reads what LIST_COMMANDS printed. */
export function parseElements(text: string): GuardedTuple[] {
  return [...text.matchAll(ELEMENT)].map(([, remote, remotePort, local, localPort]) => ({
    local: { address: parseAddress(local!)!, port: Number(localPort) },
    remote: { address: parseAddress(remote!)!, port: Number(remotePort) },
  }));
}
