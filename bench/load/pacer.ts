/** Calls at given times, to a few microseconds: Node's own timers are a millisecond or two late. */

/** A timer of Node may come this much late; the rest of the wait is spent asking the clock. */
const EARLY_MS = 2.5;

/**
 * Calls `due(index)` at each time of `timesMs` (ascending, of performance.now()). Resolves after the last call.
 * What falls due while the thread is busy is called late, but is called. Between wake-up and time the event loop
 * goes round without sleeping, so sockets are served meanwhile.
 */
export function pace(timesMs: readonly number[], due: (index: number) => void): Promise<void> {
  return new Promise((resolve) => {
    let next = 0;
    const go = (): void => {
      for (;;) {
        const at = timesMs[next];
        if (at === undefined) {
          resolve();
          return;
        }
        const waitMs = at - performance.now();
        if (waitMs > EARLY_MS) {
          setTimeout(go, waitMs - EARLY_MS);
          return;
        }
        if (waitMs > 0) {
          setImmediate(go);
          return;
        }
        due(next);
        next += 1;
      }
    };
    go();
  });
}
