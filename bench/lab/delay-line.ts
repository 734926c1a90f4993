/**
 * The process between the hosts of a lab. It holds their namespaces and TUNs and forwards every packet after
 * its delay; its owner speaks to it over a socket pair (protocol.ts). When that socket ends it kills what runs
 * in its hosts and exits, and with it everything else vanishes.
 *
 *            ┌─────────────── one turn ───────────────┐
 *   opened ─▶│ receive ─▶ deliver what is due ─▶ ppoll │─▶ control request ─▶ next turn
 *            └────────────────────────────────────────┘
 *
 * One thread and no event loop while packets move: ppoll(2) with a nanosecond timeout wakes within tens of
 * microseconds, where a Node timer has a grain of 1 ms. Read direction.ts next.
 */
import { readSync, writeSync } from "node:fs";
import { SyscallError } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import type { NetworkNamespace } from "../../native/net/netns.ts";
import { PollSet } from "../../native/net/poll-set.ts";
import type { Tun } from "../../native/net/tun.ts";
import { setRoundRobin, setTimerSlack } from "../../native/scheduling.ts";
import { Direction } from "./direction.ts";
import { ActiveFilter } from "./filter.ts";
import { LabError, type LabErrorCode } from "./lab-error.ts";
import { buildNetwork } from "./network.ts";
import { PcapWriter } from "./pcap.ts";
import { CONTROL_DESCRIPTOR, type LinkCounters, type Opened, type Reply, type Request } from "./protocol.ts";
import { killProcessesIn } from "./sweep.ts";
import type { LabPlan, LinkPlan } from "./topology.ts";

/** Packets moved one way before the other way and the clock get their turn. */
const BATCH = 32;
/**
 * Under load the control socket is looked at this often, and the processor left to others for a moment: Linux
 * keeps 5 % from real-time threads, and takes it as 50 ms at once from one that leaves less.
 */
const BUSY_MAX_MS = 1;
const BREATH_MS = 0.06;
const CONTROL_BUFFER = 1 << 16;
/** A processor that slept long wakes late, by up to 0.2 ms in a virtual machine; after a nap it does not. */
const LONG_SLEEP_MS = 2;
const NAP_MS = 0.3;

/** One link: its two directions and what is shared by them. */
class Line {
  readonly directions: readonly [Direction, Direction];
  #captures: readonly PcapWriter[] = [];
  #filter: ActiveFilter | undefined;

  constructor(plan: LinkPlan, [near, far]: readonly [Tun, Tun], index: number) {
    const [a, b] = plan.hosts;
    const { mtu, queuePackets } = plan;
    this.directions = [
      new Direction({ from: a, to: b, source: near, sink: far, stream: index * 2, mtu, queuePackets }),
      new Direction({ from: b, to: a, source: far, sink: near, stream: index * 2 + 1, mtu, queuePackets }),
    ];
    for (const direction of this.directions) direction.impairment.set(plan.settings);
  }

  set filter(filter: ActiveFilter | undefined) {
    this.#filter = filter;
    for (const direction of this.directions) direction.filter = filter;
  }

  /** Ends the captures there are and starts those named. */
  record(paths: Readonly<Record<string, string>>): void {
    for (const capture of this.#captures) capture.close();
    this.#captures = [];
    const byHost = new Map(
      Object.entries(paths).map(([host, path]) => [host, new PcapWriter(path)] as const),
    );
    for (const direction of this.directions) {
      direction.senderCapture = byHost.get(direction.from);
      direction.receiverCapture = byHost.get(direction.to);
    }
    this.#captures = [...byHost.values()];
  }

  counters(): LinkCounters {
    return {
      from: Object.fromEntries(this.directions.map((direction) => [direction.from, direction.counters()])),
      rules: this.#filter?.rules.counters() ?? {},
      state: this.#filter?.state ?? {},
    };
  }
}

class DelayLine {
  readonly #control = new Fd(CONTROL_DESCRIPTOR);
  readonly #received = Buffer.alloc(CONTROL_BUFFER);
  #unread = "";
  #namespaces: readonly NetworkNamespace[] = [];
  #lines: readonly Line[] = [];
  #directions: readonly Direction[] = [];
  #poll = new PollSet([this.#control]);
  readonly #breath = new PollSet([]);
  #isOpen = true;

  async run(): Promise<void> {
    while (this.#isOpen) {
      const startedMs = performance.now();
      while (this.#move() > 0) {
        if (performance.now() - startedMs < BUSY_MAX_MS) continue;
        this.#breath.wait(BREATH_MS);
        break;
      }
      this.#poll.wait(sleepMs(this.#nextDueMs() - performance.now()));
      if (this.#poll.isReadable(0)) await this.#serve();
    }
  }

  /** Kills what runs in the hosts and completes the captures. */
  close(): void {
    this.#isOpen = false;
    killProcessesIn(new Set(this.#namespaces.map((namespace) => namespace.inode)));
    for (const line of this.#lines) line.record({});
  }

  #move(): number {
    let moved = 0;
    for (const direction of this.#directions) moved += direction.receive(BATCH);
    for (const direction of this.#directions) moved += direction.deliver(BATCH);
    return moved;
  }

  #nextDueMs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const direction of this.#directions) next = Math.min(next, direction.nextDueMs);
    return next;
  }

  /** Answers the requests that have arrived whole. */
  async #serve(): Promise<void> {
    const length = readSync(CONTROL_DESCRIPTOR, this.#received);
    if (length === 0) {
      this.close();
      return;
    }
    const lines = (this.#unread + this.#received.toString("latin1", 0, length)).split("\n");
    this.#unread = lines.pop() ?? "";
    for (const line of lines) {
      const request: Request = JSON.parse(Buffer.from(line, "latin1").toString());
      writeReply(await this.#answer(request));
    }
  }

  async #answer(request: Request): Promise<Reply> {
    try {
      return { ok: true, value: await this.#perform(request) };
    } catch (error) {
      return { ok: false, code: codeOf(error), message: explain(error) };
    }
  }

  async #perform(request: Request): Promise<unknown> {
    switch (request.op) {
      case "open":
        return this.#open(request.plan);
      case "set":
        for (const direction of this.#line(request.link).directions) {
          if (request.from === undefined || request.from === direction.from) {
            direction.impairment.set(request.change);
          }
        }
        return undefined;
      case "filter":
        this.#line(request.link).filter =
          request.filter === undefined ? undefined : await ActiveFilter.load(request.filter);
        return undefined;
      case "counters":
        return this.#line(request.link).counters();
      case "record":
        return this.#line(request.link).record(request.paths);
      case "close":
        return this.close();
      default: {
        const unreachable: never = request;
        return unreachable;
      }
    }
  }

  #open(plan: LabPlan): Opened {
    const { namespaces, links } = buildNetwork(plan);
    this.#namespaces = [...namespaces.values()];
    this.#lines = plan.links.map((link, index) => new Line(link, links[index]!, index));
    this.#directions = this.#lines.flatMap((line) => line.directions);
    this.#poll.close();
    this.#poll = new PollSet([this.#control, ...links.flat().map((tun) => tun.fd)]);
    return {
      namespaces: Object.fromEntries([...namespaces].map(([host, { descriptor }]) => [host, descriptor])),
    };
  }

  #line(index: number): Line {
    const line = this.#lines[index];
    if (line === undefined) throw new LabError("ACCEL_LAB_USAGE", `there is no link ${index}`);
    return line;
  }
}

/** How long to wait for something due in `untilDueMs`: a long wait ends early, and the rest is a nap. */
function sleepMs(untilDueMs: number): number {
  return untilDueMs > LONG_SLEEP_MS ? untilDueMs - NAP_MS : Math.max(0, untilDueMs);
}

function writeReply(reply: Reply): void {
  const bytes = Buffer.from(`${JSON.stringify(reply)}\n`);
  for (let at = 0; at < bytes.length; ) at += writeSync(CONTROL_DESCRIPTOR, bytes, at);
}

function codeOf(error: unknown): LabErrorCode {
  if (error instanceof LabError) return error.code;
  return remedyFor(error) === undefined ? "ACCEL_LAB_FAILED" : "ACCEL_LAB_UNAVAILABLE";
}

function explain(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const remedy = remedyFor(error);
  return remedy === undefined ? message : `the lab cannot run here (${message}): ${remedy}`;
}

/** What to do about a machine or a user that cannot have a lab; undefined for any other error. */
function remedyFor(error: unknown): string | undefined {
  if (!(error instanceof SyscallError)) return undefined;
  if (error.syscall === "open" && error.args.path === "/dev/net/tun") {
    return error.code === "EACCES" || error.code === "EPERM"
      ? "let this user open /dev/net/tun (as root: chmod 666 /dev/net/tun)"
      : "make /dev/net/tun (as root: modprobe tun; in a container: --device /dev/net/tun)";
  }
  if (error.code === "EPERM" || error.code === "EACCES") {
    return "run it as root, or as `unshare -Urn COMMAND` (needs CAP_SYS_ADMIN and CAP_NET_ADMIN)";
  }
  return undefined;
}

/** Woken without slack and, where the user may, ahead of the processes it serves. */
function becomePunctual(): void {
  setTimerSlack(1);
  try {
    setRoundRobin(1);
  } catch {
    // An ordinary user may not; the line is then as punctual as its neighbours let it be.
  }
}

becomePunctual();
const delayLine = new DelayLine();
try {
  await delayLine.run();
} catch (error) {
  delayLine.close();
  throw error;
}
process.exit(0);
