/**
 * The listening sockets of one listener: one per worker, joined by SO_REUSEPORT, so that the kernel
 * spreads clients over the workers however busy each is. (On one shared socket the worker that waits first gets
 * them all.)
 */
import { type Endpoint, familyOf } from "../native/address.ts";
import { SyscallError } from "../native/errno.ts";
import type { Fd } from "../native/fd.ts";
import { assertBindable, listenTcp, localEndpoint, setTransparent } from "../native/net/tcp-socket.ts";
import { setMark, setReusePort } from "../native/sockopt.ts";
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
    return ListenerSockets.#complete([], endpoint, workers, workers > 1, isAhead);
  }

  /**
   * Goes on with sockets that listen already, which are its own from now on: those of `endpoint`, and others whose
   * clients it takes too. Opens what they lack to one of `endpoint` per worker, beside any sockets of ours that are
   * shared. Throws SyscallError as listenTcp(); they are closed then.
   */
  static inherit(inherited: readonly Fd[], endpoint: Endpoint, workers: number): ListenerSockets {
    const isOf = (fd: Fd): boolean => isSameEndpoint(localEndpoint(fd.number), endpoint);
    const own = inherited.filter(isOf);
    const others = inherited.filter((fd) => !isOf(fd));
    try {
      if (own.length < workers) for (const fd of inherited) setReusePort(fd.number);
      const complete = ListenerSockets.#complete(own, endpoint, workers, true, false);
      return new ListenerSockets([...complete.#fds, ...others]);
    } catch (error) {
      for (const fd of inherited) fd.close();
      throw error;
    }
  }

  /** One socket of `endpoint` per worker at least, its port found by the first where it is 0. */
  static #complete(
    given: readonly Fd[],
    endpoint: Endpoint,
    workers: number,
    isShared: boolean,
    isAhead: boolean,
  ): ListenerSockets {
    const fds = [...given];
    try {
      if (fds.length === 0) fds.push(listenTcp(endpoint, BACKLOG, isShared, isAhead));
      const bound = localEndpoint(fds[0]!.number);
      while (fds.length < workers) fds.push(another(bound, given[0], isAhead));
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

  /** From now on others of this user may listen on the port beside them. */
  share(): void {
    for (const fd of this.#fds) setReusePort(fd.number);
  }

  /**
   * Takes what was meant for others: by TPROXY, and with `mark` on all that accepted sockets send. Throws SyscallError EPERM
   * without CAP_NET_ADMIN.
   */
  intercept(mark: number): void {
    for (const { number } of this.#fds) {
      setTransparent(number);
      setMark(number, mark);
    }
  }

  /**
   * Those whose clients a listener of `endpoint` has too, under other descriptors: closing one set leaves the other
   * listening. Throws EMFILE.
   */
  duplicateWithin(endpoint: Endpoint): readonly Fd[] {
    const copies: Fd[] = [];
    try {
      for (const fd of this.#fds) {
        if (isWithin(localEndpoint(fd.number), endpoint)) copies.push(fd.duplicate());
      }
      return copies;
    } catch (error) {
      for (const copy of copies) copy.close();
      throw error;
    }
  }

  close(): void {
    for (const fd of this.#fds) fd.close();
  }
}

/** One more for another worker; the workers share `given` when it is another user's, whom the kernel lets nobody join. */
function another(bound: Endpoint, given: Fd | undefined, isAhead: boolean): Fd {
  try {
    return listenTcp(bound, BACKLOG, true, isAhead);
  } catch (error) {
    const isForeign = error instanceof SyscallError && ["EADDRINUSE", "EACCES"].includes(error.code);
    if (given === undefined || !isForeign) throw error;
    return given.duplicate();
  }
}

function isSameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port;
}

/** Is `inner` the same, or the same port on an address that `outer` has too? */
export function isWithin(inner: Endpoint, outer: Endpoint): boolean {
  const any = familyOf(inner.address) === 4 ? "0.0.0.0" : "::";
  return inner.port === outer.port && (inner.address === outer.address || outer.address === any);
}
