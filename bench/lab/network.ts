/**
 * Builds the kernel's side of a lab: a namespace per host, a TUN at each end of each link, addresses, routes.
 * Everything hangs on descriptors of this process and is gone when it ends, however it ends.
 */
import { writeFileSync } from "node:fs";
import {
  addAddress4,
  addAddress6,
  addDefaultRoute4,
  addDefaultRoute6,
  bringUp,
  setMtu,
  setTransmitQueue,
} from "../../native/net/interface.ts";
import { NetworkNamespace } from "../../native/net/netns.ts";
import { Tun } from "../../native/net/tun.ts";
import type { End, LabPlan, LinkPlan } from "./topology.ts";
import { linkAddress } from "./topology.ts";

export interface Network {
  readonly namespaces: ReadonlyMap<string, NetworkNamespace>;
  /** By link, the TUN at each end. */
  readonly links: readonly (readonly [Tun, Tun])[];
}

/** Throws SyscallError: EPERM, EACCES or ENOENT when this user or machine cannot have a lab. */
export function buildNetwork(plan: LabPlan): Network {
  const namespaces = new Map(plan.hosts.map((host) => [host, NetworkNamespace.create()] as const));
  for (const [host, namespace] of namespaces) {
    namespace.enter(() => prepareHost(plan.forward.includes(host)));
  }
  const links = plan.links.map((link, index) => {
    const [near, far] = link.hosts.map((host, end) =>
      namespaces.get(host)!.enter(() => openEnd(link, index, end === 0 ? 0 : 1)),
    );
    return [near!, far!] as const;
  });
  return { namespaces, links };
}

/** Loopback up; IPv6 quiet: no link-local addresses, router solicitations or their like in the captures. */
function prepareHost(forward: boolean): void {
  bringUp("lo");
  for (const scope of ["all", "default"]) {
    setSysctl(`net/ipv6/conf/${scope}/addr_gen_mode`, 1);
    setSysctl(`net/ipv6/conf/${scope}/accept_ra`, 0);
    setSysctl(`net/ipv6/conf/${scope}/router_solicitations`, 0);
    if (forward) setSysctl(`net/ipv6/conf/${scope}/forwarding`, 1);
  }
  if (forward) setSysctl("net/ipv4/ip_forward", 1);
}

function openEnd(link: LinkPlan, index: number, end: End): Tun {
  const tun = Tun.open(link.interfaces[end]);
  setMtu(tun.name, link.mtu);
  // Nothing may be lost before the line has seen it: its own queue is the one that is bounded and counted.
  setTransmitQueue(tun.name, link.queuePackets);
  bringUp(tun.name);
  const address4 = linkAddress(index, end, 4);
  addAddress4(tun.name, address4.bytes, address4.prefixLength);
  const address6 = linkAddress(index, end, 6);
  addAddress6(tun.name, address6.bytes, address6.prefixLength);
  if (tun.name === "wan0") {
    addDefaultRoute4(tun.name);
    addDefaultRoute6(tun.name);
  }
  return tun;
}

function setSysctl(path: string, value: number): void {
  writeFileSync(`/proc/sys/${path}`, String(value));
}
