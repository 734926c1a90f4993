import { Resolver } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { type Endpoint, formatAddress, parseAddress } from "../native/address.ts";
import { errorSymbol } from "./errors.ts";

/**
 * The addresses of upstream servers that are given by name: /etc/hosts first, then DNS A and AAAA, asked again
 * when the shortest TTL ends. DNS names are taken as they stand, without the search domains of resolv.conf.
 *
 * A name that fails keeps the addresses it had, and is asked again at growing intervals.
 */

const TTL_MIN_MS = 1_000;
const TTL_MAX_MS = 3_600_000;
/** How often the hosts file is read again for a name that stands in it. */
const HOSTS_INTERVAL_MS = 10_000;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 30_000;
/** Every address becomes a server with a pool of its own: a broken zone must not open thousands. */
const ADDRESSES_MAX = 64;
const QUERY = { timeout: 2_000, tries: 2 } as const;

/** One answer of DNS; `ttl` in seconds. */
interface AddressRecord {
  readonly address: string;
  readonly ttl: number;
}

/** The part of node:dns/promises Resolver that is used. Rejections carry a `code` such as ENOTFOUND. */
export interface NameResolver {
  resolve4(name: string, options: { ttl: true }): Promise<readonly AddressRecord[]>;
  resolve6(name: string, options: { ttl: true }): Promise<readonly AddressRecord[]>;
}

/** Calls `run` once after `delayMs`, unless the function it returns is called first. */
export type Clock = (delayMs: number, run: () => void) => () => void;

interface NameLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface NameWatcherOptions {
  readonly log: NameLogger;
  /** Default /etc/hosts. */
  readonly hostsFile?: string;
  /** Default: the servers of /etc/resolv.conf. */
  readonly resolver?: NameResolver;
  readonly clock?: Clock;
}

interface Subscriber {
  readonly port: number;
  readonly onChange: (endpoints: Endpoint[]) => void;
}

interface WatchedName {
  readonly subscribers: Set<Subscriber>;
  /** Canonical and in order, IPv4 before IPv6; empty until the first answer. */
  addresses: readonly string[];
  byFamily: { readonly 4: readonly string[]; readonly 6: readonly string[] };
  failures: number;
  cancel: () => void;
}

/** What one look-up found: addresses and when to ask again, or why there are none. */
type Lookup =
  | { readonly ok: true; readonly byFamily: WatchedName["byFamily"]; readonly againMs: number }
  | { readonly ok: false; readonly reason: string };

export class NameWatcher {
  readonly #log: NameLogger;
  readonly #hostsFile: string;
  readonly #resolver: NameResolver;
  readonly #clock: Clock;
  readonly #names = new Map<string, WatchedName>();
  readonly #running = new Map<string, Promise<readonly string[]>>();

  constructor({ log, hostsFile = "/etc/hosts", resolver, clock = afterDelay }: NameWatcherOptions) {
    this.#log = log;
    this.#hostsFile = hostsFile;
    this.#resolver = resolver ?? new Resolver(QUERY);
    this.#clock = clock;
  }

  /**
   * Reports the endpoints of a host name or IP address at `port`: all of them, never from within this call, once
   * they are first known and whenever they change. Never an empty list. Returns the function that ends it.
   */
  watch(name: string, port: number, onChange: (endpoints: Endpoint[]) => void): () => void {
    const subscriber = { port, onChange };
    const key = keyOf(name);
    const literal = parseAddress(name);
    const watched = this.#names.get(key) ?? newName();
    watched.subscribers.add(subscriber);
    if (literal !== undefined) watched.addresses = [formatAddress(literal)];
    if (watched.addresses.length > 0) {
      queueMicrotask(() => {
        if (watched.subscribers.has(subscriber)) notify(subscriber, watched.addresses);
      });
    }
    if (literal === undefined && !this.#names.has(key)) {
      this.#names.set(key, watched);
      void this.#refresh(key, watched);
    }
    return () => {
      watched.subscribers.delete(subscriber);
      if (watched.subscribers.size > 0 || this.#names.get(key) !== watched) return;
      watched.cancel();
      this.#names.delete(key);
    };
  }

  /**
   * The addresses of a name, known already or looked up once now; an IP address as it is, in canonical text.
   * Empty when the name has none. Never rejects; takes as long as the resolver's own time limit at most.
   */
  async first(name: string): Promise<readonly string[]> {
    const literal = parseAddress(name);
    if (literal !== undefined) return [formatAddress(literal)];
    const key = keyOf(name);
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const watched = this.#names.get(key);
    if (watched !== undefined) return watched.addresses;
    const found = await this.#lookUp(key, newName().byFamily);
    return found.ok ? inOrder(found.byFamily) : [];
  }

  /** Ends every watch. A look-up under way ends by itself, without effect. */
  close(): void {
    for (const watched of this.#names.values()) {
      watched.subscribers.clear();
      watched.cancel();
    }
    this.#names.clear();
  }

  async #refresh(key: string, watched: WatchedName): Promise<void> {
    const run = this.#update(key, watched);
    this.#running.set(key, run);
    await run;
    if (this.#running.get(key) === run) this.#running.delete(key);
  }

  async #update(key: string, watched: WatchedName): Promise<readonly string[]> {
    const found = await this.#lookUp(key, watched.byFamily);
    if (this.#names.get(key) !== watched) return watched.addresses;
    const againMs = found.ok ? found.againMs : retryDelayMs(watched.failures);
    watched.cancel = this.#clock(againMs, () => void this.#refresh(key, watched));
    if (!found.ok) {
      const facts = { name: key, reason: found.reason, addresses: watched.addresses };
      if (watched.failures === 0) this.#log.warn(facts, "name cannot be resolved, its last addresses stay");
      watched.failures += 1;
      return watched.addresses;
    }
    const addresses = inOrder(found.byFamily);
    if (watched.failures > 0) this.#log.info({ name: key, addresses }, "name is resolved again");
    watched.failures = 0;
    watched.byFamily = found.byFamily;
    if (addresses.join() === watched.addresses.join()) return addresses;
    watched.addresses = addresses;
    for (const subscriber of watched.subscribers) notify(subscriber, addresses);
    return addresses;
  }

  async #lookUp(name: string, last: WatchedName["byFamily"]): Promise<Lookup> {
    const hosts = await this.#readHosts(name);
    if (hosts.length > 0) return { ok: true, byFamily: split(hosts), againMs: HOSTS_INTERVAL_MS };
    const [four, six] = await Promise.all([
      ask(() => this.#resolver.resolve4(name, { ttl: true })),
      ask(() => this.#resolver.resolve6(name, { ttl: true })),
    ]);
    const records = [...four.records, ...six.records];
    if (records.length === 0) return { ok: false, reason: four.reason ?? six.reason ?? "ENODATA" };
    const fresh = split(records.map(({ address }) => address));
    const byFamily = {
      4: four.isUnknown ? last[4] : fresh[4],
      6: six.isUnknown ? last[6] : fresh[6],
    };
    const ttlMs = Math.min(...records.map(({ ttl }) => ttl)) * 1000;
    const againMs = Math.min(Math.max(ttlMs, TTL_MIN_MS), TTL_MAX_MS);
    return { ok: true, byFamily, againMs };
  }

  async #readHosts(name: string): Promise<string[]> {
    try {
      return hostsAddresses(await readFile(this.#hostsFile, "utf8"), name);
    } catch {
      return []; // no hosts file is an empty one
    }
  }
}

interface Answer {
  readonly records: readonly AddressRecord[];
  readonly reason: string | undefined;
  /** The question got no answer, so that what was known before stays. */
  readonly isUnknown: boolean;
}

async function ask(query: () => Promise<readonly AddressRecord[]>): Promise<Answer> {
  try {
    const records = (await query()).flatMap(({ address, ttl }) => {
      const bytes = parseAddress(address);
      // 0.0.0.0 and :: are how blocking resolvers say "no such server".
      if (bytes === undefined || bytes.every((byte) => byte === 0)) return [];
      return [{ address: formatAddress(bytes), ttl }];
    });
    return { records, reason: undefined, isUnknown: false };
  } catch (error) {
    const reason = errorSymbol(error);
    return { records: [], reason, isUnknown: reason !== "ENODATA" && reason !== "ENOTFOUND" };
  }
}

/** The addresses that a hosts file (hosts(5)) gives to `name`, in its order. */
function hostsAddresses(text: string, name: string): string[] {
  return text.split("\n").flatMap((line) => {
    const [address = "", ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    const bytes = parseAddress(address);
    return bytes !== undefined && names.some((word) => keyOf(word) === name) ? [formatAddress(bytes)] : [];
  });
}

/** Names are equal whatever their case and with or without the final dot (RFC 4343, RFC 1034). */
function keyOf(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

function newName(): WatchedName {
  return { subscribers: new Set(), addresses: [], byFamily: { 4: [], 6: [] }, failures: 0, cancel: () => {} };
}

function split(addresses: readonly string[]): WatchedName["byFamily"] {
  const unique = [...new Set(addresses)].sort();
  return {
    4: unique.filter((address) => !address.includes(":")),
    6: unique.filter((address) => address.includes(":")),
  };
}

function inOrder(byFamily: WatchedName["byFamily"]): readonly string[] {
  return [...byFamily[4], ...byFamily[6]].slice(0, ADDRESSES_MAX);
}

function notify({ port, onChange }: Subscriber, addresses: readonly string[]): void {
  onChange(addresses.map((address) => ({ address, port })));
}

function retryDelayMs(failures: number): number {
  return Math.min(RETRY_MIN_MS * 2 ** Math.min(failures, 10), RETRY_MAX_MS);
}

/** The wall clock of the process; a wait for a name keeps no process alive. */
function afterDelay(delayMs: number, run: () => void): () => void {
  const timer = setTimeout(run, delayMs).unref();
  return () => clearTimeout(timer);
}
