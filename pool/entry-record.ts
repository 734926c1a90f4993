/** What a SYN and its SYN-ACK leave in the entry table, for takers to build a socket from. */
import type { SynTemplate } from "../native/net/tcp-socket.ts";
import type { TcpSegment } from "../native/wire/tcp.ts";
import {
  ENTRY,
  type EntryTable,
  OPTION_COOKIE,
  OPTION_SACK,
  OPTION_TIMESTAMPS,
  OPTION_WSCALE,
} from "./entry-table.ts";
import type { SynOptions } from "./handshake-wire.ts";

/** The numbers of a SYN about to be sent. */
export interface SynNumbers {
  readonly pool: number;
  readonly port: number;
  readonly iss: number;
  readonly tsval: number;
}

/** Fills a free entry. */
export function recordSyn(table: EntryTable, entry: number, syn: SynNumbers, template: SynTemplate): void {
  table.set(entry, ENTRY.pool, syn.pool);
  table.set(entry, ENTRY.port, syn.port);
  table.set(entry, ENTRY.iss, syn.iss);
  table.set(entry, ENTRY.synTsval, syn.tsval);
  table.set(entry, ENTRY.irs, 0);
  table.set(entry, ENTRY.ending, 0);
  table.set(entry, ENTRY.advmss, template.advmss);
  table.set(entry, ENTRY.synWindow, template.window);
  table.set(entry, ENTRY.hopLimit, template.hopLimit);
  table.source(entry, template.source.length).set(template.source);
  table.setVerdict(entry, "none");
}

/** Notes a SYN-ACK that arrived at `arrivedMs`: an option counts as agreed when both sides offered it. */
export function recordSynAck(
  table: EntryTable,
  entry: number,
  { seq, window, options }: TcpSegment,
  offered: SynOptions,
  arrivedMs: number,
  isCookie: boolean,
): void {
  const timestamps = options.tsval !== undefined && offered.timestamps;
  const sack = options.sackPermitted === true && offered.sack;
  const wscale = options.wscale !== undefined && offered.wscale !== undefined;
  table.set(entry, ENTRY.irs, seq);
  table.set(entry, ENTRY.synackTsval, options.tsval ?? 0);
  table.set(entry, ENTRY.mss, options.mss ?? 0);
  table.set(entry, ENTRY.snd_wnd, window);
  table.set(entry, ENTRY.snd_wscale, options.wscale ?? 0);
  table.set(entry, ENTRY.rcv_wscale, wscale ? (offered.wscale ?? 0) : 0);
  table.set(
    entry,
    ENTRY.options,
    (timestamps ? OPTION_TIMESTAMPS : 0) |
      (sack ? OPTION_SACK : 0) |
      (wscale ? OPTION_WSCALE : 0) |
      (timestamps && isCookie ? OPTION_COOKIE : 0),
  );
  table.set(entry, ENTRY.synackAt, arrivedMs | 0);
}
