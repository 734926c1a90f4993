import { release } from "node:os";
import { SyscallError } from "../native/errno.ts";
import { NftGuard } from "../native/guard/guard.ts";
import { GuardError } from "../native/guard/guard-error.ts";
import { GUARD_TABLE } from "../native/guard/ruleset.ts";
import { HandshakeRing } from "../native/net/handshake-ring.ts";
import { probeRing } from "../native/ring/probe.ts";
import { SteeredPorts } from "../pool/steered-ports.ts";
import { readSysctl } from "../pool/sysctl.ts";
import { tryInterception } from "./intercept/intercept.ts";
import { runLoopbackTrial } from "./loopback-trial.ts";
import {
  type Capability,
  describeSyscallError,
  GRANT,
  lackOf,
  tryCapability,
  tryFilter,
} from "./privileges.ts";
import { readLimit } from "./process-limits.ts";

/**
 * What this host and user can do. Required checks decide whether accelproxy can accelerate here; the others say
 * what limits it or may surprise. What can be tried is tried, the rest is read from /proc.
 */

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** Acceleration is impossible without. */
  readonly required: boolean;
  /** What was seen, in words. */
  readonly found: string;
  /** What to do when it is not ok. */
  readonly remedy: string;
}

export interface Diagnosis {
  /** Every required check is ok. */
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

// IORING_REGISTER_PBUF_RING, the newest thing the engine cannot do without.
const KERNEL_MIN = [5, 19] as const;
const PORTS_MIN = 10_000;
const OPEN_FILES_MIN = 4_096;
/** Share of the connection tracking table from which new connections are at risk. */
const CONNTRACK_SHARE_MAX = 0.9;

/** Makes every check. Opens and closes a few sockets, and sends a few packets on the loopback interface. */
export async function diagnose(): Promise<Diagnosis> {
  const checks = [
    checkKernel(release()),
    checkCapability("CAP_NET_RAW"),
    checkCapability("CAP_NET_ADMIN"),
    checkFilter(),
    await checkRepair(),
    checkRing(),
    checkBpf(),
    checkTimestamps(),
    checkPorts(),
    checkOpenFiles(),
    checkMemlock(),
    checkIpv6(),
    checkConntrack(),
    checkReversePath(),
    checkGuard(),
    checkInterception(),
  ];
  return { ok: checks.every((check) => check.ok || !check.required), checks };
}

function checkKernel(found: string): Check {
  const [major = 0, minor = 0] = found.split(/[.-]/, 2).map(Number);
  const ok = major > KERNEL_MIN[0] || (major === KERNEL_MIN[0] && minor >= KERNEL_MIN[1]);
  const remedy = `boot Linux ${KERNEL_MIN.join(".")} or newer`;
  return { name: "kernel", ok, required: true, found: `Linux ${found}`, remedy };
}

function checkCapability(name: Capability): Check {
  const refusal = tryCapability(name);
  if (refusal === undefined) return { name, ok: true, required: true, found: "usable", remedy: GRANT };
  const { found, remedy } = lackOf(name, refusal);
  return { name, ok: false, required: true, found, remedy };
}

function checkFilter(): Check {
  const refusal = tryFilter();
  return {
    name: "socket-filter",
    ok: refusal === undefined,
    required: true,
    found: refusal === undefined ? "SO_ATTACH_FILTER works" : describeSyscallError(refusal),
    remedy:
      "grant CAP_NET_ADMIN, and allow SO_ATTACH_FILTER in the seccomp profile or security module of the container or service",
  };
}

async function checkRepair(): Promise<Check> {
  const result = await runLoopbackTrial();
  return {
    name: "tcp-repair",
    ok: result.ok,
    required: true,
    found: result.ok
      ? `a half-open connection became a socket on 127.0.0.1 in ${result.elapsedMs.toFixed(1)} ms`
      : result.failure,
    remedy:
      "grant the capabilities, bring the loopback interface up (ip link set lo up), let its firewall pass TCP, and use a kernel with CONFIG_CHECKPOINT_RESTORE",
  };
}

function checkRing(): Check {
  const { available, missing, remedy, flags, ops } = probeRing();
  const names = Object.entries({ ...flags, ...ops });
  const there = names.filter(([, has]) => has).map(([name]) => name.replace(/^IORING_(SETUP_|OP_)/, ""));
  const absent = names.filter(([, has]) => !has).map(([name]) => name.replace(/^IORING_(SETUP_|OP_)/, ""));
  const without = absent.length === 0 ? "" : `; without ${absent.join(", ")}`;
  return {
    name: "io_uring",
    ok: available,
    required: false,
    found: available ? `${there.join(", ")}${without}` : `${missing.join(", ")}; epoll is used instead`,
    remedy: remedy ?? "sysctl kernel.io_uring_disabled=0, and allow io_uring in the seccomp profile",
  };
}

function checkBpf(): Check {
  const refusal = errorOf(() => new HandshakeRing().close());
  return {
    name: "bpf",
    ok: refusal === undefined,
    required: false,
    found:
      refusal === undefined
        ? `handshakes are heard by eBPF filters on our own sockets; ${describeListeners()}`
        : `${describeSyscallError(refusal)}; a raw socket is used instead, to which the kernel offers every TCP packet`,
    remedy: "grant CAP_BPF, outside of user namespaces, and allow bpf in the seccomp profile",
  };
}

function errorOf(attempt: () => void): SyscallError | undefined {
  try {
    attempt();
    return undefined;
  } catch (error) {
    if (error instanceof SyscallError) return error;
    throw error;
  }
}

/** Who guards the ports of half-opens, and why. */
function describeListeners(): string {
  const ring = new HandshakeRing();
  const refusal = errorOf(() => new SteeredPorts(false, ring.guard).close());
  ring.close();
  if (refusal === undefined)
    return "half-opens share one listener, on the ports above net.ipv4.ip_local_port_range";
  const each = "each half-open has a listener of its own";
  switch (refusal.code) {
    case "EADDRNOTAVAIL":
      return `${each}: net.ipv4.ip_local_port_range leaves too few ports above it to share one`;
    case "EADDRINUSE":
      return `${each}: another process, perhaps an accelproxy, has the port that marks shared ones`;
    default:
      return `${each}: ${describeSyscallError(refusal)}`;
  }
}

function checkTimestamps(): Check {
  const value = readSysctl("net/ipv4/tcp_timestamps");
  return {
    name: "tcp_timestamps",
    ok: value !== "0",
    required: false,
    found: `net.ipv4.tcp_timestamps = ${value ?? "not shown"}`,
    remedy:
      "sysctl net.ipv4.tcp_timestamps=1: without it a port cannot be used again while the upstream has it in TIME_WAIT",
  };
}

function checkPorts(): Check {
  const [first = 0, last = 0] = (readSysctl("net/ipv4/ip_local_port_range") ?? "").split(/\s+/).map(Number);
  const count = last >= first && first > 0 ? last - first + 1 : 0;
  return {
    name: "ip_local_port_range",
    ok: count >= PORTS_MIN,
    required: false,
    found: `${first} to ${last}: ${count} ports to one server at a time`,
    remedy: 'sysctl net.ipv4.ip_local_port_range="10240 60999"',
  };
}

function checkOpenFiles(): Check {
  const { soft, hard } = readLimit("Max open files");
  return {
    name: "open-files",
    ok: atLeast(soft, OPEN_FILES_MIN),
    required: false,
    found: `soft limit ${soft}, hard limit ${hard}; a session takes two`,
    remedy: "ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit",
  };
}

/** Rings count against the memory cgroup since Linux 5.12, which is older than what the engine needs. */
function checkMemlock(): Check {
  return {
    name: "memlock",
    ok: true,
    required: false,
    found: `soft limit ${readLimit("Max locked memory").soft}; io_uring rings do not count against it since Linux 5.12`,
    remedy: "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit",
  };
}

function checkIpv6(): Check {
  const disabled = readSysctl("net/ipv6/conf/all/disable_ipv6");
  return {
    name: "ipv6",
    ok: disabled === "0",
    required: false,
    found: disabled === "0" ? "enabled" : disabled === undefined ? "not in this kernel" : "disabled",
    remedy: "sysctl net.ipv6.conf.all.disable_ipv6=0, if clients or upstreams use IPv6",
  };
}

function checkConntrack(): Check {
  const count = Number(readSysctl("net/netfilter/nf_conntrack_count") ?? Number.NaN);
  const max = Number(
    readSysctl("net/netfilter/nf_conntrack_max") ?? readSysctl("net/nf_conntrack_max") ?? Number.NaN,
  );
  const isKnown = !Number.isNaN(count) && !Number.isNaN(max);
  return {
    name: "nf_conntrack",
    ok: !isKnown || count < max * CONNTRACK_SHARE_MAX,
    required: false,
    found: isKnown
      ? `${count} of ${max} entries; a half-open connection takes one where rules track it`
      : "not loaded",
    remedy: "sysctl net.netfilter.nf_conntrack_max=262144, or exempt the upstreams with notrack rules",
  };
}

function checkReversePath(): Check {
  const value = readSysctl("net/ipv4/conf/all/rp_filter");
  const strict =
    value === "1" ? ": strict, drops SYN-ACKs that come in by another interface than the SYN left" : "";
  return {
    name: "rp_filter",
    ok: true,
    required: false,
    found: `net.ipv4.conf.all.rp_filter = ${value ?? "not shown"}${strict}`,
    remedy: "sysctl net.ipv4.conf.all.rp_filter=2, where routes are asymmetric",
  };
}

/** Connections that are away: of a checkpoint to be restored, or of one that will never be. */
function checkGuard(): Check {
  const name = "guard";
  try {
    using guard = new NftGuard();
    const { length } = guard.list();
    const isOne = length === 1;
    return {
      name,
      ok: length === 0,
      required: false,
      found:
        length === 0
          ? "nftables work; no connection is guarded"
          : `${length} ${isOne ? "connection is" : "connections are"} guarded: nobody answers for ${isOne ? "it" : "them"}`,
      remedy: `restore the checkpoint; where there is none any more, nft delete table inet ${GUARD_TABLE}`,
    };
  } catch (error) {
    if (!(error instanceof GuardError)) throw error;
    const remedy = "apt-get install nftables and grant CAP_NET_ADMIN, to checkpoint and move sessions";
    return { name, ok: false, required: false, found: error.message, remedy };
  }
}

/** For transparent listeners only. */
function checkInterception(): Check {
  const name = "interception";
  const remedy = "apt-get install nftables, grant CAP_NET_ADMIN, and use a kernel with nft_tproxy and nf_nat";
  try {
    const refusals = tryInterception();
    const found = refusals.map(({ method, reason }) => `${method}: ${reason}`);
    return {
      name,
      ok: refusals.length === 0,
      required: false,
      found: refusals.length === 0 ? "tproxy and redirect rules can be made" : found.join("; "),
      remedy,
    };
  } catch (error) {
    if (!(error instanceof GuardError)) throw error;
    return { name, ok: false, required: false, found: error.message, remedy };
  }
}

function atLeast(limit: string, min: number): boolean {
  return limit === "unlimited" || Number(limit) >= min;
}
