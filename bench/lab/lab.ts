/**
 * A network on one machine: hosts (network namespaces) joined by lines with delay, loss and the like. The
 * line is a process of its own (delay-line.ts); this is the owner's side. README.md shows how to use it.
 *
 *   Lab (owner's process) ── control socket ──▶ delay line ══ TUN ══ namespace of each host
 *     └─ spawn() ─▶ processes in the hosts
 */
import { DelayLineClient } from "./delay-line-client.ts";
import { Host } from "./host.ts";
import { LabError } from "./lab-error.ts";
import { impairmentOf, Link, type LinkSettings } from "./link.ts";
import type { Opened } from "./protocol.ts";
import { killProcessesIn } from "./sweep.ts";
import { type LabPlan, LINKS_MAX, type LinkPlan } from "./topology.ts";

export type { Filter, FilterSpec, Rule } from "./filter.ts";
export type { Host } from "./host.ts";
export { LabError } from "./lab-error.ts";
export type { Link, LinkSettings } from "./link.ts";
export { type CapturedPacket, readPcap } from "./pcap.ts";

/** A link and its settings to begin with. */
export interface LinkOptions extends LinkSettings {
  readonly between: readonly [string, string];
  /** Bytes; 1500 unless told. */
  readonly mtu?: number;
  /** Packets that may wait in each direction, of any size; unless told, 64 MiB of packets of a full MTU. */
  readonly queuePackets?: number;
}

export interface LabOptions {
  /** "near" and "far" unless told. */
  readonly hosts?: readonly string[];
  /** Unless told: each host and the next one, without delay. */
  readonly links?: readonly LinkOptions[];
  /** Hosts that pass on packets for others. */
  readonly forward?: readonly string[];
}

const QUEUE_BYTES = 64 << 20;
const MTU = 1500;
const MTU_MIN = 1280; // RFC 8200 section 5
const MTU_MAX = 65_535;

/** Hosts and links, from create() to close(). `await using` closes it; if its owner dies, it vanishes by itself. */
export class Lab implements AsyncDisposable {
  readonly #client: DelayLineClient;
  readonly #hosts: ReadonlyMap<string, Host>;
  readonly #links: readonly Link[];
  #isClosed = false;

  private constructor(client: DelayLineClient, plan: LabPlan, opened: Opened) {
    this.#client = client;
    this.#hosts = new Map(
      plan.hosts.map((name) => {
        const path = `/proc/${client.pid}/fd/${opened.namespaces[name]}`;
        return [name, new Host(name, path, plan.links)] as const;
      }),
    );
    this.#links = plan.links.map((link, index) => new Link(client, index, link));
  }

  /**
   * Builds a lab: loopback up, addresses and routes set, each host's default route through its first link.
   * Rejects with LabError: ACCEL_LAB_UNAVAILABLE without the rights or /dev/net/tun, ACCEL_LAB_USAGE for
   * options that make no sense.
   */
  static async create(options: LabOptions = {}): Promise<Lab> {
    const plan = planLab(options);
    let lab: Lab | undefined;
    // Without its line a lab is dead: what still runs in it must not outlive it.
    const client = new DelayLineClient(() => {
      if (lab !== undefined) lab.#killProcesses();
    });
    try {
      lab = new Lab(client, plan, (await client.ask({ op: "open", plan })) as Opened);
      return lab;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  /** Throws LabError ACCEL_LAB_USAGE when there is no such host. */
  host(name: string): Host {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new LabError("ACCEL_LAB_USAGE", `there is no host "${name}"`);
    return host;
  }

  /** The link between two hosts, in either order; without names the only one. Throws LabError ACCEL_LAB_USAGE. */
  link(a?: string, b?: string): Link {
    const found =
      a === undefined || b === undefined
        ? this.#links
        : this.#links.filter(({ hosts }) => hosts.includes(a) && hosts.includes(b));
    const [link] = found;
    if (link === undefined || found.length > 1) {
      throw new LabError("ACCEL_LAB_USAGE", `${found.length} links between ${a ?? "any"} and ${b ?? "any"}`);
    }
    return link;
  }

  /** Kills everything in the hosts, completes captures, removes the network; waits until all is gone. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#client.close();
    for (const host of this.#hosts.values()) {
      await host.processesEnded();
      host.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #killProcesses(): void {
    killProcessesIn(new Set([...this.#hosts.values()].map((host) => host.namespaceInode)));
  }
}

function planLab(options: LabOptions): LabPlan {
  const { hosts = ["near", "far"], forward = [] } = options;
  const links =
    options.links ?? hosts.slice(1).map((host, index) => ({ between: [hosts[index]!, host] as const }));
  if (hosts.length === 0 || new Set(hosts).size < hosts.length) {
    throw new LabError("ACCEL_LAB_USAGE", "hosts need names of their own");
  }
  if (links.length > LINKS_MAX) throw new LabError("ACCEL_LAB_USAGE", `more than ${LINKS_MAX} links`);
  const seen = new Map<string, number>();
  const nextInterface = (host: string): string => {
    if (!hosts.includes(host))
      throw new LabError("ACCEL_LAB_USAGE", `a link names an unknown host "${host}"`);
    const count = seen.get(host) ?? 0;
    seen.set(host, count + 1);
    return `wan${count}`;
  };
  return { hosts, forward, links: links.map((link) => planLink(link, nextInterface)) };
}

function planLink(options: LinkOptions, nextInterface: (host: string) => string): LinkPlan {
  const { between, mtu = MTU, queuePackets = Math.floor(QUEUE_BYTES / mtu), ...settings } = options;
  const [a, b] = between;
  if (a === b) throw new LabError("ACCEL_LAB_USAGE", `a link joins "${a}" with itself`);
  if (!(Number.isInteger(mtu) && mtu >= MTU_MIN && mtu <= MTU_MAX)) {
    throw new LabError("ACCEL_LAB_USAGE", `mtu ${mtu} is not between ${MTU_MIN} and ${MTU_MAX}`);
  }
  if (!(Number.isInteger(queuePackets) && queuePackets >= 1)) {
    throw new LabError("ACCEL_LAB_USAGE", `queuePackets ${queuePackets} is not at least 1`);
  }
  const interfaces = [nextInterface(a), nextInterface(b)] as const;
  return { hosts: [a, b], interfaces, mtu, queuePackets, settings: impairmentOf(settings) };
}
