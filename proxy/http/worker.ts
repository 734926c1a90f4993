/**
 * An http worker's thread: Node's own event loop, with listeners that accept on sockets of the main thread. It understands
 * the messages of engine workers; its sessions do not leave, they end here.
 */
import { Socket } from "node:net";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { IPPROTO_TCP, SOCK_NONBLOCK } from "../../native/abi/socket.ts";
import { TCP_NODELAY } from "../../native/abi/tcp.ts";
import { nowMs } from "../../native/clock.ts";
import { rightsPair } from "../../native/net/unix-rights.ts";
import { Gate } from "../../pool/gate.ts";
import { forwardingLogger, type Logger } from "../../pool/logger.ts";
import { Line } from "../balance/line.ts";
import { EngineCounters } from "../engine/counters.ts";
import type { FromWorker, ToWorker, UpstreamShare } from "../engine/messages.ts";
import { TakerFactory } from "../engine/upstream.ts";
import { createLog } from "../log.ts";
import * as limits from "./limits.ts";
import { HttpListener, type ListenerServices } from "./listener.ts";
import type { HttpWorkerData } from "./messages.ts";
import { HttpUpstream, type UpstreamServices } from "./upstream.ts";

const SOCKET_OPTIONS = [{ level: IPPROTO_TCP, name: TCP_NODELAY, value: 1 }] as const;
const STDOUT = 1;

class HttpWorker {
  readonly #port: MessagePort;
  readonly #index: number;
  readonly #log: Logger;
  readonly #upstreamServices: UpstreamServices;
  readonly #listenerServices: ListenerServices;
  readonly #upstreams = new Map<string, HttpUpstream>();
  readonly #listeners = new Map<number, HttpListener>();
  /** No longer listening, with clients that are still here. */
  readonly #former = new Set<HttpListener>();
  readonly #wakes: Socket;
  readonly #sweeping: NodeJS.Timeout;
  #isDraining = false;

  constructor(port: MessagePort, data: HttpWorkerData) {
    this.#port = port;
    this.#log = forwardingLogger(data.logLevel, (line) => this.#tell(line));
    const access = createLog({ level: "info", readable: data.isReadable, descriptor: STDOUT }).child({
      component: "http",
    });
    const isLogged = ["trace", "debug", "info"].includes(data.logLevel);
    const counters = new EngineCounters(data.counters);
    const descriptors = new Gate(data.descriptors, data.index);
    const takers = data.keeper && new TakerFactory(data.keeper, SOCKET_OPTIONS, SOCK_NONBLOCK);
    this.#upstreamServices = { takers, counters, descriptors, log: this.#log };
    this.#index = data.index;
    this.#listenerServices = {
      counters,
      thread: data.index,
      descriptors,
      upstream: (name) => this.#upstreams.get(name),
      onRequest: (fields) => {
        if (isLogged) access.info(fields, "request");
      },
      log: this.#log,
      onClientGone: () => this.#onClientGone(),
    };
    // Gates wake threads by writing to a descriptor. Node waits for sockets, not for eventfds.
    const [near, far] = rightsPair();
    this.#wakes = new Socket({ fd: near.release(), readable: true, writable: false });
    this.#wakes.on("data", () => this.#redeem()).on("error", () => {});
    const wakeFd = far.release();
    new Int32Array(data.descriptors.wakeFds)[data.index] = wakeFd;
    this.#sweeping = setInterval(() => this.#sweep(), limits.SWEEP_INTERVAL);
    port.on("message", (message: ToWorker) => this.#obey(message));
    this.#tell({ kind: "started", wakeFd, driver: "node", fallback: undefined });
  }

  #tell(message: FromWorker): void {
    this.#port.postMessage(message);
  }

  #obey(message: ToWorker): void {
    switch (message.kind) {
      case "upstream":
        this.#setUpstream(message.upstream);
        break;
      case "dropUpstream":
        this.#upstreams.get(message.name)?.close();
        this.#upstreams.delete(message.name);
        break;
      case "listen": {
        const { listener } = message;
        const known = this.#listeners.get(listener.id);
        if (known) known.configure(listener);
        else this.#listeners.set(listener.id, new HttpListener(listener, this.#listenerServices));
        this.#tell({ kind: "listening", id: listener.id });
        break;
      }
      case "unlisten":
        this.#unlisten(message.id, message.isLast);
        this.#tell({ kind: "unlistened", id: message.id });
        break;
      case "depart":
        this.#tell({ kind: "departed", sessions: [], left: 0 });
        break;
      case "adopt":
        throw new Error("sessions of an engine do not go on in http mode");
      case "ping":
        this.#tell({ kind: "pong" });
        break;
      case "drain":
        this.#drain();
        break;
      case "abort":
        for (const listener of [...this.#listeners.values(), ...this.#former]) listener.abort();
        break;
      default: {
        const unreachable: never = message;
        throw new Error(`unknown message ${JSON.stringify(unreachable)}`);
      }
    }
  }

  #setUpstream(share: UpstreamShare): void {
    const before = this.#upstreams.get(share.name);
    before?.close();
    const line = before?.line ?? new Line(share.line, this.#index);
    this.#upstreams.set(share.name, new HttpUpstream(share, line, this.#upstreamServices));
    line.serve(nowMs()); // perhaps with a server that has room
  }

  #unlisten(id: number, isLast: boolean): void {
    const listener = this.#listeners.get(id);
    if (listener === undefined) return;
    this.#listeners.delete(id);
    listener.close(isLast);
    this.#former.add(listener);
  }

  /** Another thread made room: at a gate, or at a server. */
  #redeem(): void {
    for (const { line } of this.#upstreams.values()) line.serve(nowMs());
    for (const listener of [...this.#listeners.values(), ...this.#former]) listener.redeem();
  }

  #sweep(): void {
    const now = performance.now();
    for (const listener of [...this.#listeners.values(), ...this.#former]) listener.sweep(now);
  }

  #drain(): void {
    this.#isDraining = true;
    for (const id of [...this.#listeners.keys()]) this.#unlisten(id, true);
    for (const listener of this.#former) listener.drain();
    this.#onClientGone();
  }

  #onClientGone(): void {
    for (const listener of this.#former) if (listener.clients === 0) this.#former.delete(listener);
    if (!this.#isDraining || this.#former.size > 0) return;
    clearInterval(this.#sweeping);
    for (const upstream of this.#upstreams.values()) upstream.close();
    this.#upstreams.clear();
    this.#wakes.destroy();
    this.#tell({ kind: "drained" });
    this.#port.close();
  }
}

if (parentPort) new HttpWorker(parentPort, workerData as HttpWorkerData);
