/**
 * The listening sockets of one listener: one per worker, joined by SO_REUSEPORT, so that the kernel
 * spreads clients over the workers however busy each is. (On one shared socket the worker that waits first gets
 * them all.)
 */
import type { Endpoint } from "../native/address.ts";
import type { Fd } from "../native/fd.ts";
import { assertBindable, listenTcp, localEndpoint } from "../native/net/tcp-socket.ts";
import { setReusePort } from "../native/sockopt.ts";
import { BACKLOG } from "./engine/limits.ts";

export class ListenerSockets {
  readonly #fds: readonly Fd[];
  /** As bound: the port chosen where the configuration says 0. */
  readonly endpoint: Endpoint;

  private constructor(fds: readonly Fd[]) {
    this.#fds = fds;
    this.endpoint = localEndpoint(fds[0]!.number);
  }

  /** Listens on `endpoint` with one socket per worker; `isAhead` and errors as listenTcp(). */
  static open(endpoint: Endpoint, workers: number, isAhead = false): ListenerSockets {
    // SO_REUSEPORT would let a second proxy of the same user join in silence.
    assertBindable(endpoint, isAhead);
    const fds = [listenTcp(endpoint, BACKLOG, workers > 1, isAhead)];
    try {
      const { port } = localEndpoint(fds[0]!.number);
      while (fds.length < workers) fds.push(listenTcp({ ...endpoint, port }, BACKLOG, true, isAhead));
      return new ListenerSockets(fds);
    } catch (error) {
      for (const fd of fds) fd.close();
      throw error;
    }
  }

  /**
   * Goes on with sockets that listen already, which are its own from now on, and opens what they lack to one per worker.
   * Throws SyscallError as listenTcp(); they are closed then.
   */
  static inherit(inherited: readonly Fd[], workers: number): ListenerSockets {
    const fds = [...inherited];
    try {
      const endpoint = localEndpoint(fds[0]!.number);
      if (fds.length < workers) for (const fd of fds) setReusePort(fd.number);
      while (fds.length < workers) fds.push(listenTcp(endpoint, BACKLOG, true));
      return new ListenerSockets(fds);
    } catch (error) {
      for (const fd of fds) fd.close();
      throw error;
    }
  }

  /**
   * Their descriptors, which stay ours: socket n is for worker n modulo the number of workers. Inherited ones may be more
   * than there are workers, and clients wait in the backlog of each.
   */
  get descriptors(): readonly number[] {
    return this.#fds.map(({ number }) => number);
  }

  /**
   * The same sockets under other descriptors, and what they lack to one per worker: closing one set leaves the other
   * listening. Throws EMFILE, and as listenTcp().
   */
  duplicate(workers: number): ListenerSockets {
    const copies: Fd[] = [];
    try {
      for (const fd of this.#fds) copies.push(fd.duplicate());
    } catch (error) {
      for (const copy of copies) copy.close();
      throw error;
    }
    return ListenerSockets.inherit(copies, workers);
  }

  close(): void {
    for (const fd of this.#fds) fd.close();
  }
}
