import { type DecodedPacket, decodePacket } from "../../native/wire/packet.ts";
import { ACK, FIN, RST, SYN } from "../../native/wire/tcp.ts";
import { LabError } from "./lab-error.ts";

/**
 * A rule for packets, as data. All conditions given must hold; those on ports, flags and payload hold for TCP
 * packets only. Rules are asked in order until one drops or delays the packet.
 */
export interface Rule {
  /** Names the rule in LinkCounters. */
  readonly name: string;
  readonly action: "drop" | "count" | { readonly delayMs: number };
  /** The host that sent it. */
  readonly from?: string;
  readonly family?: 4 | 6;
  /** Exactly these among F, S, R and A; a list means any of them. "S" is a SYN, "SA" a SYN-ACK. */
  readonly flags?: string | readonly string[];
  readonly sport?: number;
  readonly dport?: number;
  /** Either port. */
  readonly port?: number;
  readonly payload?: "some" | "none";
  /** The payload contains this, each character one byte. */
  readonly contains?: string;
  /** Matches to let pass first: `skip: 2, limit: 1` is the third match only. */
  readonly skip?: number;
  /** Matches to act on; without it all. */
  readonly limit?: number;
}

/** What a filter function is told about a packet. `state` is its own, kept from packet to packet. */
export interface FilterContext<Options = unknown> {
  readonly from: string;
  readonly to: string;
  readonly nowMs: number;
  readonly options: Options;
  readonly state: Record<string, unknown>;
}

/**
 * Decides about a packet on entry, before the link's impairments. `packet` may be altered in place or kept
 * only by copying it; checksums are the function's own business. An array is sent instead of the packet,
 * `delayMs` holds it back by that much longer than its link does. Must be quick and synchronous: the whole
 * lab waits for it.
 */
export type Filter<Options = unknown> = (
  packet: Uint8Array,
  context: FilterContext<Options>,
) => "pass" | "drop" | Uint8Array | { readonly delayMs: number };

/** Rules, or a function from a module, or both: the function sees what the rules let pass. */
export interface FilterSpec {
  readonly rules?: readonly Rule[];
  readonly module?: string | URL;
  /** The name the module exports the Filter under. */
  readonly export?: string;
  /** Handed to the Filter; JSON. */
  readonly options?: unknown;
}

export interface RuleCounters {
  /** Packets that fulfilled the rule's conditions. */
  readonly matched: number;
  /** Those of them that it dropped or delayed. */
  readonly acted: number;
}

const FLAG_BITS = new Map([
  ["F", FIN],
  ["S", SYN],
  ["R", RST],
  ["A", ACK],
]);
const FLAG_MASK = FIN | SYN | RST | ACK;

class CompiledRule {
  readonly rule: Rule;
  readonly #flags: readonly number[] | undefined;
  readonly #contains: Buffer | undefined;
  matched = 0;
  acted = 0;

  constructor(rule: Rule) {
    this.rule = rule;
    if (rule.flags !== undefined) this.#flags = [rule.flags].flat().map(parseFlags);
    if (rule.contains !== undefined) this.#contains = Buffer.from(rule.contains, "latin1");
  }

  /** Counts the packet if it matches; true when the rule acts on it. */
  applies(from: string, packet: Uint8Array, tcp: DecodedPacket | undefined): boolean {
    if (!this.#matches(from, packet, tcp)) return false;
    const { skip = 0, limit = Number.POSITIVE_INFINITY, action } = this.rule;
    const position = this.matched++;
    if (action === "count" || position < skip || position >= skip + limit) return false;
    this.acted++;
    return true;
  }

  #matches(from: string, packet: Uint8Array, tcp: DecodedPacket | undefined): boolean {
    const { rule } = this;
    if (rule.from !== undefined && rule.from !== from) return false;
    if (rule.family !== undefined && rule.family !== packet[0]! >>> 4) return false;
    if (tcp === undefined) return !this.#needsTcp;
    if (this.#flags !== undefined && !this.#flags.includes(tcp.flags & FLAG_MASK)) return false;
    if (rule.sport !== undefined && rule.sport !== tcp.sport) return false;
    if (rule.dport !== undefined && rule.dport !== tcp.dport) return false;
    if (rule.port !== undefined && rule.port !== tcp.sport && rule.port !== tcp.dport) return false;
    if (rule.payload !== undefined && (rule.payload === "some") !== tcp.payloadEnd > tcp.payloadStart)
      return false;
    return this.#contains === undefined || payloadOf(packet, tcp).includes(this.#contains);
  }

  get #needsTcp(): boolean {
    const { flags, sport, dport, port, payload, contains } = this.rule;
    return [flags, sport, dport, port, payload, contains].some((condition) => condition !== undefined);
  }
}

/** The rules of a link with their counters. */
export class RuleSet {
  readonly #rules: readonly CompiledRule[];

  /** Throws LabError ACCEL_LAB_USAGE for flags it does not know and for names used twice. */
  constructor(rules: readonly Rule[]) {
    this.#rules = rules.map((rule) => new CompiledRule(rule));
    if (new Set(rules.map((rule) => rule.name)).size < rules.length) {
      throw new LabError("ACCEL_LAB_USAGE", "two rules have the same name");
    }
  }

  /** The action of the first rule that acts on the packet; "pass" when none does. */
  decide(from: string, packet: Uint8Array): "pass" | "drop" | { readonly delayMs: number } {
    if (this.#rules.length === 0) return "pass";
    const tcp = decodePacket(packet);
    for (const compiled of this.#rules) {
      if (!compiled.applies(from, packet, tcp)) continue;
      const { action } = compiled.rule;
      if (action !== "count") return action;
    }
    return "pass";
  }

  counters(): Record<string, RuleCounters> {
    return Object.fromEntries(
      this.#rules.map(({ rule, matched, acted }) => [rule.name, { matched, acted }] as const),
    );
  }
}

/** The rules and the function of a link at work. */
export class ActiveFilter {
  readonly rules: RuleSet;
  readonly state: Record<string, unknown> = {};
  readonly #filter: Filter | undefined;
  readonly #options: unknown;

  private constructor(rules: RuleSet, filter: Filter | undefined, options: unknown) {
    this.rules = rules;
    this.#filter = filter;
    this.#options = options;
  }

  /** Loads the function, if there is one. Throws LabError ACCEL_LAB_USAGE when the module has no such export. */
  static async load(spec: FilterSpec): Promise<ActiveFilter> {
    const rules = new RuleSet(spec.rules ?? []);
    if (spec.module === undefined) return new ActiveFilter(rules, undefined, undefined);
    const name = spec.export ?? "default";
    const module: Record<string, unknown> = await import(String(spec.module));
    const filter = module[name];
    if (!isFilter(filter)) {
      throw new LabError("ACCEL_LAB_USAGE", `${spec.module} exports no function "${name}"`);
    }
    return new ActiveFilter(rules, filter, spec.options);
  }

  decide(from: string, to: string, packet: Uint8Array, nowMs: number): ReturnType<Filter> {
    const decision = this.rules.decide(from, packet);
    if (decision !== "pass" || this.#filter === undefined) return decision;
    return this.#filter(packet, { from, to, nowMs, options: this.#options, state: this.state });
  }
}

function isFilter(value: unknown): value is Filter {
  return typeof value === "function";
}

function payloadOf(packet: Uint8Array, tcp: DecodedPacket): Buffer {
  return Buffer.from(packet.buffer, packet.byteOffset + tcp.payloadStart, tcp.payloadEnd - tcp.payloadStart);
}

function parseFlags(text: string): number {
  let bits = 0;
  for (const letter of text) {
    const bit = FLAG_BITS.get(letter);
    if (bit === undefined) throw new LabError("ACCEL_LAB_USAGE", `flags "${text}" are not of F, S, R and A`);
    bits |= bit;
  }
  return bits;
}
