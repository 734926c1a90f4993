/**
 * dump: the image of a connection in repair mode. Reading changes nothing; the guard keeps what is read true.
 */
import { ENOPROTOOPT } from "../abi/errno.ts";
import * as tcp from "../abi/tcp.ts";
import { SyscallError } from "../errno.ts";
import { seqAdd } from "../wire/seq.ts";
import { type Held, isIpv4, stateOf } from "./held.ts";
import type { TcpImage } from "./image.ts";
import { OPTION_ROWS, type OptionRow, type OptionValue, optionRow } from "./options.ts";
import { TCPOLEN_TSTAMP_ALIGNED } from "./plan.ts";
import { hasOurFin } from "./plan-queues.ts";
import { readNegotiated, readOption, readQueue, readTcp, readWindow } from "./socket-reader.ts";

/** What the caller knows of a connection and need not be asked of the kernel, or cannot. */
export interface Known {
  /** The options of a like connection's image, one that the same listener accepted, say: most are the same. */
  readonly options?: readonly OptionValue[];
  /** The kernel chose the local port at connect; see isPortChosen(). */
  readonly portChosen?: boolean;
}

/**
 * Reads the whole connection. The socket stays as it is, and the image has queues of its own. Segments received
 * out of order are left out: the peer sends them again. Throws RepairError ACCEL_REPAIR_STATE when the peer has
 * reset the connection before it was frozen; SyscallError.
 */
export function dump(held: Held, known: Known = {}): TcpImage {
  const { fd, local, remote } = held;
  const info = readNegotiated(fd);
  const { snd_wscale, rcv_wscale } = info;
  const state = stateOf(info.state, held);
  const isSynSent = state === "SYN_SENT";
  const mss_clamp = readTcp(fd, tcp.TCP_MAXSEG);
  const { seq: write_seq, bytes: written } = readQueue(fd, "send", info.isSending && !isSynSent);
  // The receive queue last: with the send queue chosen, a timer would count what is unsent as sent.
  const { seq: rcv_nxt, bytes: received } = readQueue(fd, "receive", !isSynSent);
  const finQueued = hasOurFin(state);
  const finSent = state === "FIN_WAIT2" || (finQueued && info.notsent === 0);
  const sentLength = written.length - Math.max(0, info.notsent - (finQueued ? 1 : 0));
  const timestamps = info.timestamps || isSynSent;
  const window = readWindow(fd);
  const options = readOptions(held, known.options);
  return {
    local,
    remote,
    snd_una: seqAdd(write_seq, -written.length - (finQueued || isSynSent ? 1 : 0)),
    rcv_nxt,
    mss_clamp,
    advmss: info.advmss + (info.timestamps ? TCPOLEN_TSTAMP_ALIGNED : 0),
    wscale: snd_wscale + rcv_wscale === 0 ? undefined : { snd_wscale, rcv_wscale },
    sackPermitted: info.sack,
    window,
    options: [],
    live: {
      state,
      received,
      sent: written.subarray(0, sentLength),
      unsent: written.subarray(sentLength),
      finSent,
      mss: info.snd_mss,
      portChosen: known.portChosen ?? false,
      options,
    },
    // Last: no segment may have left with a later one.
    tsval: timestamps ? nextTsval(readTcp(fd, tcp.TCP_TIMESTAMP)) : undefined,
  };
}

/** TCP_TIMESTAMP has lost the clock's lowest bit to the flag: the next value but one is after what was sent. */
const nextTsval = (value: number): number => seqAdd(value, 2);

/**
 * The options of a held socket, in the order of the rows. With `known` only those are read in which like connections may
 * differ, and the result is `known` itself where none does. Options this kernel does not have are left out. Throws
 * SyscallError.
 */
export function readOptions(held: Held, known?: readonly OptionValue[]): readonly OptionValue[] {
  if (known !== undefined) {
    const options = known.map((option) => {
      const row = optionRow(option.name)!;
      if (!row.changes && !row.differs) return option;
      const value = readOption(held.fd, row);
      return value === option.value ? option : { name: option.name, value };
    });
    return options.every((option, i) => option === known[i]) ? known : options;
  }
  const ip = isIpv4(held.remote.address) ? 4 : 6;
  const options: OptionValue[] = [];
  for (const row of OPTION_ROWS) {
    if (row.ip !== undefined && row.ip !== ip) continue;
    // What repair mode has overwritten waits for its end.
    const waiting = row.moment === "repair" ? held.later.find(({ name }) => name === row.name) : undefined;
    const value = waiting?.value ?? readIfKnown(held.fd, row);
    if (value !== undefined) options.push({ name: row.name, value });
  }
  return options;
}

function readIfKnown(fd: number, row: OptionRow): number | string | undefined {
  try {
    return readOption(fd, row);
  } catch (error) {
    if (error instanceof SyscallError && error.errno === ENOPROTOOPT) return undefined;
    throw error;
  }
}
