/**
 * Policy routing for TPROXY: packets with a mark are delivered on this host, whatever their destination. A rule sends them
 * to a table of its own, in which everything is local. Both calls may be repeated: what is there, or gone, stays so.
 */
import { EEXIST, ENOENT, ESRCH } from "../abi/errno.ts";
import * as rt from "../abi/rtnetlink.ts";
import { AF_INET, AF_INET6 } from "../abi/socket.ts";
import { SyscallError } from "../errno.ts";
import { askRtnetlink, interfaceIndex } from "./interface.ts";

export interface MarkedRoute {
  readonly family: 4 | 6;
  readonly mark: number;
  /** Routing table, and priority of the rule. */
  readonly table: number;
}

/** Throws SyscallError EPERM without CAP_NET_ADMIN, EAFNOSUPPORT where the family is off. */
export function addMarkedRoute(route: MarkedRoute): void {
  const flags = rt.NLM_F_CREATE | rt.NLM_F_EXCL;
  unless([EEXIST], () => askRtnetlink("RTM_NEWROUTE", routeMessage(rt.RTM_NEWROUTE, flags, route)));
  unless([EEXIST], () => askRtnetlink("RTM_NEWRULE", ruleMessage(rt.RTM_NEWRULE, flags, route)));
}

/** Throws as addMarkedRoute(). */
export function removeMarkedRoute(route: MarkedRoute): void {
  unless([ENOENT], () => askRtnetlink("RTM_DELRULE", ruleMessage(rt.RTM_DELRULE, 0, route)));
  unless([ESRCH, ENOENT], () => askRtnetlink("RTM_DELROUTE", routeMessage(rt.RTM_DELROUTE, 0, route)));
}

function unless(errors: readonly number[], attempt: () => void): void {
  try {
    attempt();
  } catch (error) {
    if (!(error instanceof SyscallError && errors.includes(error.errno))) throw error;
  }
}

function routeMessage(type: number, flags: number, { family, table }: MarkedRoute): Buffer {
  const header = Buffer.alloc(rt.RTMSG_SIZE);
  header.set([familyNumber(family), 0, 0, 0, 0, rt.RTPROT_STATIC, rt.RT_SCOPE_HOST, rt.RTN_LOCAL]);
  return message(type, flags, header, [
    [rt.RTA_TABLE, table],
    [rt.RTA_OIF, interfaceIndex("lo")],
  ]);
}

function ruleMessage(type: number, flags: number, { family, mark, table }: MarkedRoute): Buffer {
  const header = Buffer.alloc(rt.FIB_RULE_HDR_SIZE);
  header.set([familyNumber(family), 0, 0, 0, 0, 0, 0, rt.FR_ACT_TO_TBL]);
  return message(type, flags, header, [
    [rt.FRA_PRIORITY, table],
    [rt.FRA_FWMARK, mark],
    [rt.FRA_TABLE, table],
  ]);
}

function message(
  type: number,
  flags: number,
  header: Buffer,
  attributes: readonly (readonly [type: number, value: number])[],
): Buffer {
  const out = Buffer.alloc(rt.NLMSGHDR_SIZE + header.length + attributes.length * (rt.RTATTR_SIZE + 4));
  out.writeUInt32LE(out.length, 0);
  out.writeUInt16LE(type, 4);
  out.writeUInt16LE(rt.NLM_F_REQUEST | rt.NLM_F_ACK | flags, 6);
  header.copy(out, rt.NLMSGHDR_SIZE);
  for (const [index, [name, value]] of attributes.entries()) {
    const at = rt.NLMSGHDR_SIZE + header.length + index * (rt.RTATTR_SIZE + 4);
    out.writeUInt16LE(rt.RTATTR_SIZE + 4, at);
    out.writeUInt16LE(name, at + 2);
    out.writeUInt32LE(value, at + rt.RTATTR_SIZE);
  }
  return out;
}

const familyNumber = (family: 4 | 6): number => (family === 4 ? AF_INET : AF_INET6);
