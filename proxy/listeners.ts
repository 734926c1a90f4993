/**
 * The listeners of a running proxy: their sockets, what the workers have to know of them, and how a reload changes them
 * without refusing a client.
 */
import type { Logger } from "pino";
import type { diffConfig } from "../config/diff.ts";
import { type Listener, routeDefaults } from "../config/schema.ts";
import { type Endpoint, formatEndpoint } from "../native/address.ts";
import type { Fd } from "../native/fd.ts";
import { localEndpoint } from "../native/net/tcp-socket.ts";
import type { GateShare } from "../pool/gate.ts";
import type { ListenerShare } from "./engine/messages.ts";
import type { WorkerHandle } from "./engine/worker-handle.ts";
import { listenError } from "./errors.ts";
import type { CertificateShare, HttpShare } from "./http/messages.ts";
import { listenerShare } from "./listener-shares.ts";
import { isWithin, ListenerSockets } from "./listener-sockets.ts";
import { sameSockets } from "./reload-plan.ts";
import type { ListenerStatus } from "./status.ts";
import type { Traffic } from "./traffic.ts";
import { prepareSockets } from "./transparent/marking.ts";

type ListenerDiff = ReturnType<typeof diffConfig>["listeners"];

export interface LiveListener {
  readonly config: Listener;
  readonly sockets: ListenerSockets;
  readonly id: number;
  readonly gate: GateShare;
}

export interface ListenersOptions {
  /** Those whose listeners are of this mode. */
  readonly workers: (mode: Listener["mode"]) => readonly WorkerHandle[];
  /** Of the listener of this name. */
  readonly certificates: (name: string) => readonly CertificateShare[];
  /** A gate for the sessions of a listener. */
  readonly gate: (connectionsMax: number) => GateShare;
  readonly traffic: Traffic;
  readonly log: Logger;
}

export class Listeners {
  readonly #options: ListenersOptions;
  readonly #live = new Map<string, LiveListener>();
  #nextId = 1;

  constructor(options: ListenersOptions) {
    this.#options = options;
  }

  get all(): readonly LiveListener[] {
    return [...this.#live.values()];
  }

  get(name: string): LiveListener | undefined {
    return this.#live.get(name);
  }

  get status(): readonly ListenerStatus[] {
    return this.all.map((listener) => this.#statusOf(listener));
  }

  /** Opens what a listener needs, or goes on with sockets that listen already. Throws StartError. */
  open(listener: Listener, inherited?: readonly Fd[], isAhead = false): ListenerSockets {
    const { name, mode } = listener;
    const endpoint = endpointOf(listener);
    const count = this.#options.workers(mode).length;
    try {
      const sockets =
        inherited === undefined
          ? ListenerSockets.open(endpoint, count, isAhead)
          : ListenerSockets.inherit(inherited, localEndpoint(inherited[0]!.number), count);
      return prepareSockets(sockets, listener);
    } catch (error) {
      throw listenError(`listener ${name}`, formatEndpoint(endpoint), error);
    }
  }

  /** Starts a listener on open sockets, which are its own from now on. */
  async start(config: Listener, sockets: ListenerSockets): Promise<void> {
    const gate = this.#options.gate(config.maxConnections);
    const id = this.#nextId;
    this.#nextId += sockets.descriptors.length;
    await this.#listen(config, sockets, id, gate);
    this.#options.log.info({ listener: config.name, address: formatEndpoint(sockets.endpoint) }, "listening");
  }

  async #listen(config: Listener, sockets: ListenerSockets, id: number, gate: GateShare): Promise<void> {
    const listener = { config, sockets, id, gate };
    await Promise.all(this.shares(listener).map(([worker, share]) => worker.listen(share)));
    this.#live.set(config.name, listener);
  }

  /** What each worker has to know of a listener's sockets, the first of every worker first. */
  shares({ config, sockets, id, gate }: LiveListener): readonly (readonly [WorkerHandle, ListenerShare])[] {
    const { name, mode, upstream } = config;
    const counted = { route: this.#options.traffic.route(name, upstream), gate };
    const http = mode === "http" && { http: this.#httpShare(config) };
    const share = { ...listenerShare(config, sockets.endpoint, counted), ...http };
    const workers = this.#options.workers(mode);
    return sockets.descriptors.map((fd, index) => [
      workers[index % workers.length]!,
      { ...share, id: id + index, fd },
    ]);
  }

  #httpShare({ name, upstream, routes }: Listener): HttpShare {
    const all = [...routes, { host: "*", pathPrefix: "/", upstream, ...routeDefaults }];
    return {
      routes: all.map((route) => ({ ...route, route: this.#options.traffic.route(name, route.upstream) })),
      certificates: this.#options.certificates(name),
    };
  }

  close(): void {
    for (const { sockets } of this.#live.values()) sockets.close();
    this.#live.clear();
  }

  /** Opens every new socket first: what cannot be bound refuses the whole file. Throws StartError. */
  prepare(diff: ListenerDiff): Map<string, ListenerSockets> {
    const sockets = new Map<string, ListenerSockets>();
    const moved = diff.changed.filter(({ from, to }) => !sameSockets(from, to));
    const leaving = this.#liveOf([...diff.removed, ...moved.map(({ from }) => from)]);
    try {
      for (const listener of [...diff.added, ...moved.map(({ to }) => to)]) {
        sockets.set(listener.name, this.#openBeside(listener, leaving));
      }
      return sockets;
    } catch (error) {
      for (const opened of sockets.values()) opened.close();
      throw error;
    }
  }

  #liveOf(listeners: readonly Listener[]): readonly LiveListener[] {
    return listeners.flatMap(({ name }) => this.#live.get(name) ?? []);
  }

  /**
   * A listener about to go may have the port, on an address that overlaps: 0.0.0.0 and 127.0.0.1, say. Sockets whose
   * clients are the new one's too change hands, so that nobody is refused; others stay until the new one accepts.
   */
  #openBeside(listener: Listener, leaving: readonly LiveListener[]): ListenerSockets {
    const { name, mode } = listener;
    const endpoint = endpointOf(listener);
    const neighbours = leaving.filter(({ sockets }) => sockets.endpoint.port === endpoint.port);
    if (neighbours.length === 0) return this.open(listener);
    try {
      for (const { sockets } of neighbours) sockets.share();
      const taken = neighbours.flatMap(({ sockets }) => sockets.duplicateWithin(endpoint));
      const sockets = ListenerSockets.inherit(taken, endpoint, this.#options.workers(mode).length);
      return prepareSockets(sockets, listener);
    } catch (error) {
      throw listenError(`listener ${name}`, formatEndpoint(endpoint), error);
    }
  }

  /**
   * New ones accept before old ones end. A socket that changes hands has one of them at a time, since Node's accept()
   * needs it not to block and the engine's needs it to; its clients wait in the backlog meanwhile.
   */
  async apply(diff: ListenerDiff, sockets: ReadonlyMap<string, ListenerSockets>): Promise<void> {
    const moved = diff.changed.filter(({ from, to }) => !sameSockets(from, to));
    for (const { from, to } of diff.changed) {
      const listener = this.#live.get(from.name);
      if (!listener || !sameSockets(from, to)) continue;
      await this.#listen(to, listener.sockets, listener.id, listener.gate);
    }
    const gone = this.#liveOf([...diff.removed, ...moved.map(({ from }) => from)]);
    for (const { config } of gone) this.#live.delete(config.name);
    const begun = [...diff.added, ...moved.map(({ to }) => to)];
    const taken = begun.map(endpointOf);
    const isTaken = (fd: number): boolean => taken.some((by) => isWithin(localEndpoint(fd), by));
    await this.#unlisten(gone, isTaken, false);
    for (const config of begun) {
      const opened = sockets.get(config.name);
      if (opened) await this.start(config, opened);
    }
    await this.#unlisten(gone, (fd) => !isTaken(fd), true);
    for (const listener of gone) listener.sockets.close();
  }

  /** Nobody accepts any more on the sockets that are meant; `isLast` as in ToWorker. */
  async #unlisten(
    listeners: readonly LiveListener[],
    isMeant: (fd: number) => boolean,
    isLast: boolean,
  ): Promise<void> {
    const shares = listeners.flatMap((listener) => this.shares(listener));
    const meant = shares.filter(([, { fd }]) => isMeant(fd));
    await Promise.all(meant.map(([worker, { id }]) => worker.unlisten(id, isLast)));
  }

  #statusOf({ config: { name, mode }, sockets }: LiveListener): ListenerStatus {
    const total = this.#options.traffic.of(name, "total");
    const address = formatEndpoint(sockets.endpoint);
    return { name, address, mode, active: this.#options.traffic.of(name, "active"), total };
  }
}

function endpointOf({ bind }: Listener): Endpoint {
  return { address: bind.host, port: bind.port };
}
