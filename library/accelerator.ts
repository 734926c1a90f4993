/**
 * What accelerates the connections of this thread: one keeper, in a thread of its own, for all pools and connectors. It
 * starts with the first pool and ends when neither a pool nor a socket made of a half-open is left, and keeps the
 * process alive at no time.
 */
import { debuglog } from "node:util";
import { IPPROTO_TCP, SOCK_NONBLOCK } from "../native/abi/socket.ts";
import { TCP_NODELAY } from "../native/abi/tcp.ts";
import { SyscallError } from "../native/errno.ts";
import { probeRoute } from "../native/net/tcp-socket.ts";
import { EntryTable } from "../pool/entry-table.ts";
import { HandshakeWire } from "../pool/handshake-wire.ts";
import { KeeperHandle, PoolError } from "../pool/keeper-handle.ts";
import type { Logger } from "../pool/logger.ts";
import type { PoolSpec } from "../pool/pool-spec.ts";
import { PoolRegistry, poolKey } from "../pool/registry.ts";
import { KeeperSignal } from "../pool/signal.ts";
import { Taker } from "../pool/taker.ts";
import { Server } from "./server.ts";

type Spec = Omit<PoolSpec, "id">;

/** A server's pool in use, until release(). */
export interface Hold {
  readonly server: Server;
  release(): Promise<void>;
}

interface Running {
  readonly keeper: KeeperHandle;
  readonly registry: PoolRegistry;
  readonly shared: ConstructorParameters<typeof Taker>[1];
  readonly onExit: () => void;
}

const SOCKET_OPTIONS = [{ level: IPPROTO_TCP, name: TCP_NODELAY, value: 1 }] as const;
/** How long the exit of the process may wait for half-opens to be given up, ms. */
const EXIT_WAIT = 500;

class Accelerator {
  /** Nothing can be accelerated here; a warning said so. */
  isRefused = false;
  #running: Promise<Running> | undefined;
  /** Pools held and sockets made of half-opens. */
  #users = 0;
  /** By poolKey(): the pools that somebody holds. */
  readonly #servers = new Map<string, Server>();

  /** The pool of a server, whoever holds it. */
  find(spec: Spec): Server | undefined {
    return this.#servers.get(poolKey(spec));
  }

  /** Whether anything may be ready for a server at this port. */
  isReadyAt(port: number): boolean {
    for (const server of this.#servers.values()) {
      if (server.taker.share.server.port === port && server.isReady) return true;
    }
    return false;
  }

  /** Starts the pool of a server, or shares it. Undefined where that is not possible: the first time with a warning. */
  async hold(spec: Spec): Promise<Hold | undefined> {
    if (this.isRefused) return undefined;
    this.#users += 1;
    try {
      this.#running ??= this.#start();
      const { registry, shared } = await this.#running;
      const { share } = await registry.hold(spec);
      const server =
        this.find(spec) ?? this.#add(spec, new Taker(share, shared, SOCKET_OPTIONS, SOCK_NONBLOCK));
      server.holders += 1;
      return {
        server,
        release: async () => {
          server.holders -= 1;
          if (server.holders === 0) this.#servers.delete(poolKey(spec));
          await registry.letGo(spec);
          registry.close();
          await this.#leave();
        },
      };
    } catch (error) {
      this.#refuse(error);
      await this.#leave();
      return undefined;
    }
  }

  #add(spec: Spec, taker: Taker): Server {
    const server = new Server(taker, (change) => {
      if (change === 1) this.#users += 1;
      else void this.#leave();
    });
    this.#servers.set(poolKey(spec), server);
    return server;
  }

  async #start(): Promise<Running> {
    assertRepair();
    const keeper = await KeeperHandle.start(
      log.enabled ? "debug" : "silent",
      logger,
      (error) => this.#refuse(error),
      { isBackground: true },
    );
    const onExit = () => keeper.stopNow(EXIT_WAIT);
    process.on("exit", onExit);
    const { table: buffer, signal, wakeFd } = keeper.share;
    const table = new EntryTable(buffer);
    const shared = { table, wire: new HandshakeWire(table), signal: new KeeperSignal(signal, wakeFd) };
    return { keeper, registry: new PoolRegistry(keeper), shared, onExit };
  }

  async #leave(): Promise<void> {
    this.#users -= 1;
    const running = this.#running;
    if (this.#users > 0 || running === undefined) return;
    this.#running = undefined;
    const started = await running.catch(() => undefined);
    if (started === undefined) return;
    const { keeper, shared, onExit } = started;
    process.off("exit", onExit);
    await keeper.stop();
    shared.wire.close();
  }

  #refuse(error: unknown): void {
    if (this.isRefused) return;
    this.isRefused = true;
    const why = error instanceof Error ? error.message : String(error);
    const isDenied =
      (error instanceof SyscallError || error instanceof PoolError) && /E(PERM|ACCES)$/.test(error.code);
    if (isDenied) {
      process.emitWarning(
        `connections are ordinary ones: CAP_NET_ADMIN and CAP_NET_RAW are needed (${why})`,
        {
          code: "ACCEL_UNPRIVILEGED",
          detail: 'run as root, or setcap cap_net_admin,cap_net_raw+ep "$(readlink -f "$(command -v node)")"',
        },
      );
    } else {
      process.emitWarning(`connections are ordinary ones: ${why}`, { code: "ACCEL_UNAVAILABLE" });
    }
  }
}

/** Throws SyscallError EPERM without CAP_NET_ADMIN, which the keeper would notice only as a server without a route. */
function assertRepair(): void {
  try {
    probeRoute(Uint8Array.of(127, 0, 0, 1), 9);
  } catch (error) {
    if (error instanceof SyscallError && error.code === "ENETUNREACH") return; // the loopback is down
    throw error;
  }
}

const log = debuglog("accelproxy");
/** What pools say goes where Node's own debugging goes: NODE_DEBUG=accelproxy. */
const say = (fields: object, message: string): void => log("%s %j", message, fields);
const logger: Logger = { debug: say, info: say, warn: say };

/** The one of this thread. */
export const accelerator = new Accelerator();
