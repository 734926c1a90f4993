/** Where a socket in SYN_SENT connects to: getpeername() does not say, /proc/net/tcp does. */
import { readFileSync, readlinkSync } from "node:fs";
import type { TcpEnd } from "./image.ts";
import { RepairError } from "./repair-error.ts";

/**
 * The remote end of a connecting socket of the calling thread's network namespace. Reads the whole table: slow where
 * there are many connections. Throws RepairError ACCEL_REPAIR_STATE when it is not in the table any more.
 * Source: net/ipv4/tcp_ipv4.c get_tcp4_sock(), net/ipv6/tcp_ipv6.c get_tcp6_sock(): addresses as 32-bit words in the
 * host's order, ports as numbers, the inode in the tenth column.
 */
export function readConnecting(fd: number, family: 4 | 6): TcpEnd {
  const inode = /\[(\d+)\]/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
  const table = readFileSync(`/proc/thread-self/net/tcp${family === 4 ? "" : "6"}`, "latin1");
  for (const line of table.split("\n")) {
    const columns = line.trim().split(/\s+/);
    if (inode === undefined || columns[9] !== inode) continue;
    const [words = "", port = ""] = columns[2]!.split(":");
    const address = new Uint32Array(words.length / 8);
    for (const index of address.keys()) {
      address[index] = Number.parseInt(words.slice(8 * index, 8 * index + 8), 16);
    }
    return { address: new Uint8Array(address.buffer), port: Number.parseInt(port, 16) };
  }
  throw new RepairError("ACCEL_REPAIR_STATE", `descriptor ${fd} is connecting in another network namespace`);
}
