/** Tells the network that addresses are at this host's interfaces now, so that neighbours and switches send there. */
import { networkInterfaces } from "node:os";
import { AF_PACKET, ETH_P_ARP, ETH_P_IPV6, SOCKADDR_LL, SOCKADDR_LL_SIZE } from "../abi/packet.ts";
import { SOCK_CLOEXEC, SOCK_RAW } from "../abi/socket.ts";
import { parseAddress } from "../address.ts";
import { check } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { encodeAnnouncement } from "../wire/neighbour.ts";
import { interfaceIndex } from "./interface.ts";

const NO_MAC = "00:00:00:00:00:00";

/**
 * Sends one frame for each of `addresses` (4 or 16 bytes) that an interface with neighbours has; others, of the loopback
 * say, are left out. Returns how many. Throws SyscallError EPERM without CAP_NET_RAW, ENETDOWN.
 */
export function announce(addresses: readonly Uint8Array[]): number {
  let sent = 0;
  for (const [name, places] of Object.entries(networkInterfaces())) {
    for (const { address: text, mac } of places ?? []) {
      const address = parseAddress(text);
      const isMeant = address !== undefined && addresses.some((one) => Buffer.compare(one, address) === 0);
      if (!isMeant || mac === NO_MAC) continue;
      sendFrame(
        name,
        address.length,
        encodeAnnouncement(Buffer.from(mac.replaceAll(":", ""), "hex"), address),
      );
      sent += 1;
    }
  }
  return sent;
}

function sendFrame(name: string, addressLength: number, frame: Uint8Array): void {
  using fd = new Fd(
    check(libc.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), "socket", { family: "AF_PACKET" }),
  );
  const to = Buffer.alloc(SOCKADDR_LL_SIZE);
  to.writeUInt16LE(AF_PACKET, SOCKADDR_LL.sll_family);
  to.writeUInt16BE(addressLength === 4 ? ETH_P_ARP : ETH_P_IPV6, SOCKADDR_LL.sll_protocol);
  to.writeInt32LE(interfaceIndex(name), SOCKADDR_LL.sll_ifindex);
  check(libc.sendto(fd.number, frame, frame.length, 0, to, to.length), "sendto", { name });
}
