// Goal: the layouts and numbers of the interface ABI are the C headers'.
// Method: the compiler checks static assertions made from our constants; nothing is run.
import { spawnSync } from "node:child_process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as icmp from "../../../native/abi/icmp.ts";
import * as tun from "../../../native/abi/if_tun.ts";
import * as netdevice from "../../../native/abi/netdevice.ts";
import * as poll from "../../../native/abi/poll.ts";
import * as prctl from "../../../native/abi/prctl.ts";
import * as rtnetlink from "../../../native/abi/rtnetlink.ts";
import * as sched from "../../../native/abi/sched.ts";

const layout = suite("interface ABI");

/** What `sizeof` and `offsetof` say about the constants that are not macros themselves. */
const EXPRESSIONS: Readonly<Record<string, string>> = {
  IFREQ_SIZE: "sizeof(struct ifreq)",
  IFREQ_UNION: "offsetof(struct ifreq, ifr_ifru)",
  IN6_IFREQ_SIZE: "sizeof(struct in6_ifreq)",
  RTENTRY_SIZE: "sizeof(struct rtentry)",
  IN6_RTMSG_SIZE: "sizeof(struct in6_rtmsg)",
  NLMSGHDR_SIZE: "sizeof(struct nlmsghdr)",
  IFINFOMSG_SIZE: "sizeof(struct ifinfomsg)",
  RTATTR_SIZE: "sizeof(struct rtattr)",
  POLLFD_SIZE: "sizeof(struct pollfd)",
  RTMSG_SIZE: "sizeof(struct rtmsg)",
  FIB_RULE_HDR_SIZE: "sizeof(struct fib_rule_hdr)",
  SCHED_PARAM_SIZE: "sizeof(struct sched_param)",
};

const HEADERS = ["stddef.h", "sys/ioctl.h", "sys/socket.h", "poll.h", "sched.h", "sys/prctl.h"].concat(
  [
    "if",
    "if_tun",
    "sockios",
    "ipv6",
    "route",
    "ipv6_route",
    "rtnetlink",
    "fib_rules",
    "in",
    "in6",
    "icmp",
    "icmpv6",
  ].map((name) => `linux/${name}.h`),
);

function assertions(): string[] {
  const scalars = [icmp, tun, netdevice, poll, prctl, rtnetlink, sched].flatMap((module) =>
    Object.entries(module),
  );
  const fields = [
    ...Object.entries(netdevice.RTENTRY).map(
      ([field, at]) => [`offsetof(struct rtentry, ${field})`, at] as const,
    ),
    ...Object.entries(netdevice.IN6_RTMSG).map(
      ([field, at]) => [`offsetof(struct in6_rtmsg, ${field})`, at] as const,
    ),
  ];
  return [...scalars.map(([name, value]) => [EXPRESSIONS[name] ?? name, value] as const), ...fields]
    .filter(([, value]) => typeof value === "number")
    .map(([expression, value]) => `_Static_assert((${expression}) == ${value}, "${expression}");`);
}

const compiler = spawnSync("cc", ["--version"]);
const check = compiler.status === 0 ? layout : layout.skip;
check("given the C headers (needs cc), then sizes, offsets and numbers agree", () => {
  const lines = assertions();
  assert.ok(lines.length > 40);
  const source = [...HEADERS.map((name) => `#include <${name}>`), ...lines].join("\n");
  const { status, stderr } = spawnSync("cc", ["-D_GNU_SOURCE", "-fsyntax-only", "-x", "c", "-"], {
    input: source,
    encoding: "utf8",
  });
  assert.is(status, 0, stderr);
});
layout.run();
