/**
 * An engine worker's thread: builds the driver and the engine, then turns its loop until told to drain.
 * It sleeps in a system call, so whoever posts a message also wakes its eventfd.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { IPPROTO_TCP } from "../../native/abi/socket.ts";
import { TCP_NODELAY } from "../../native/abi/tcp.ts";
import { EventFd } from "../../native/eventfd.ts";
import { RingUnavailableError } from "../../native/ring/unavailable.ts";
import { forwardingLogger } from "../../pool/logger.ts";
import { type ChosenDriver, chooseDriver } from "./choose-driver.ts";
import { EngineCounters } from "./counters.ts";
import { Engine } from "./engine.ts";
import type { FromWorker, ToWorker, WorkerData } from "./messages.ts";
import { OwnConnections } from "./own-connections.ts";
import { reporter, type SessionReport } from "./session-report.ts";
import { TakerFactory } from "./upstream.ts";

const SOCKET_OPTIONS = [{ level: IPPROTO_TCP, name: TCP_NODELAY, value: 1 }] as const;
const SOCKET_FLAGS = 0;

class EngineWorker {
  readonly #port: MessagePort;
  readonly #engine: Engine;
  readonly #wakeUp = new EventFd();

  constructor(port: MessagePort, data: WorkerData, { driver, fallback }: ChosenDriver) {
    this.#port = port;
    const log = forwardingLogger(data.logLevel, (line) => this.#tell(line));
    const trace = (report: SessionReport) => this.#tell({ kind: "session", report });
    this.#engine = new Engine({
      driver,
      counters: new EngineCounters(data.counters),
      worker: data.index,
      descriptors: data.descriptors,
      takers: data.keeper && new TakerFactory(data.keeper, SOCKET_OPTIONS, SOCKET_FLAGS),
      log,
      report: reporter(log, data.logLevel, data.isTraced ? trace : undefined),
      socketFlags: SOCKET_FLAGS,
      marking: {
        upstreamMark: data.mark,
        ownConnections: data.ownConnections && new OwnConnections(data.ownConnections),
      },
      onVisited: (upstream, visit) => this.#tell({ kind: "visited", upstream, ...visit }),
      onWake: () => this.#receive(),
      onDeparted: (sessions, left) => this.#tell({ kind: "departed", sessions, left }),
      onUnlistened: (id) => this.#tell({ kind: "unlistened", id }),
    });
    new Int32Array(data.descriptors.wakeFds)[data.index] = this.#wakeUp.fd.number;
    driver.wake(this.#wakeUp.fd.number);
    this.#tell({ kind: "started", wakeFd: this.#wakeUp.fd.number, driver: driver.name, fallback });
  }

  run(): void {
    while (!this.#engine.drained) this.#engine.turn();
    this.#engine.stop();
    this.#tell({ kind: "drained" });
    this.#port.close();
  }

  #tell(message: FromWorker): void {
    this.#port.postMessage(message);
  }

  #receive(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.#port) as { message: ToWorker } | undefined;
      if (!received) return;
      this.#obey(received.message);
    }
  }

  #obey(message: ToWorker): void {
    switch (message.kind) {
      case "upstream":
        this.#engine.setUpstream(message.upstream);
        break;
      case "dropUpstream":
        this.#engine.dropUpstream(message.name);
        break;
      case "listen":
        this.#engine.listen(message.listener);
        this.#tell({ kind: "listening", id: message.listener.id });
        break;
      case "unlisten":
        this.#engine.unlisten(message.id, message.isLast);
        break;
      case "depart":
        this.#engine.depart(message.max);
        break;
      case "adopt":
        this.#engine.adopt(message.listener, message.sessions);
        break;
      case "ping":
        this.#tell({ kind: "pong" });
        break;
      case "drain":
        this.#engine.drain();
        break;
      case "abort":
        this.#engine.abort();
        break;
      default: {
        const unreachable: never = message;
        throw new Error(`unknown message ${JSON.stringify(unreachable)}`);
      }
    }
  }
}

function start(port: MessagePort, data: WorkerData): void {
  let chosen: ChosenDriver;
  try {
    chosen = chooseDriver(data.driver);
  } catch (error) {
    if (!(error instanceof RingUnavailableError)) throw error;
    port.postMessage({ kind: "unavailable", message: error.message } satisfies FromWorker);
    port.close();
    return;
  }
  new EngineWorker(port, data, chosen).run();
}

if (parentPort) start(parentPort, workerData as WorkerData);
