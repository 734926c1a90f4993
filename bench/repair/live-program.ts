/**
 * CPU time of dumping and restoring live connections, measured in this process by the thread's own clock. Prints one
 * line of JSON per observation: { what, batch, variant, us } for each connection of a batch. Arguments: ROUNDS
 * [C_PROGRAM]. Without the guard, which has a figure of its own.
 */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { threadCpuUs } from "../../native/clock.ts";
import { libc } from "../../native/libc.ts";
import type { TcpImage, TcpState } from "../../native/repair/image.ts";
import {
  discard,
  dump,
  type Guard,
  type Held,
  NftGuard,
  RepairError,
  RepairKit,
  restore,
} from "../../native/repair/repair.ts";
import { imageAt } from "./images.ts";

const FIRST_PORT = 20_000;
const COUNT_MAX = 64;
const BATCHES = [1, COUNT_MAX];
const WARM_UP_ROUNDS = 200;

/** All connections are in the guard from the start, which keeps the loopback's other end from resetting them. */
const guard = new NftGuard();
const everyone = Array.from({ length: COUNT_MAX }, (_, index) => imageAt(FIRST_PORT + index));
const standing: Guard = { add() {}, remove() {} };
const kit = new RepairKit(standing);

function held(results: readonly (Held | RepairError)[]): Held[] {
  return results.map((result) => {
    if (result instanceof RepairError) throw result;
    return result;
  });
}

/** Images as dump() makes them of idle connections in `state`. */
function imagesOf(count: number, state: TcpState): TcpImage[] {
  const live = {
    state,
    finSent: state !== "ESTABLISHED" && state !== "CLOSE_WAIT",
    mss: 32_768,
    portChosen: false,
  };
  const nothing = new Uint8Array();
  const made = held(
    restore(
      kit,
      Array.from({ length: count }, (_, index) => ({
        ...imageAt(FIRST_PORT + index),
        options: [],
        live: {
          ...live,
          received: nothing,
          sent: nothing,
          unsent: nothing,
          options: [{ name: "TCP_NODELAY", value: 1 }],
        },
      })),
    ),
  );
  const images = made.map((one) => dump(one));
  discard(made);
  for (const image of images)
    if (image.live?.state !== state) throw new Error(`${image.live?.state}, not ${state}`);
  return images;
}

function timed<T>(act: () => T): { us: number; result: T } {
  const before = threadCpuUs();
  const result = act();
  return { us: threadCpuUs() - before, result };
}

async function* cLines(
  program: string | undefined,
): AsyncGenerator<readonly number[] | undefined, never, number> {
  const child =
    program === undefined ? undefined : spawn(program, [], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = child && createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let count = yield undefined;
  for (;;) {
    child?.stdin.write(`${count} ${FIRST_PORT}\n`);
    const line = await lines?.next();
    count = yield line?.value?.split(" ").map((ns: string) => Number(ns) / 1e3);
  }
}

const [rounds = "", program] = process.argv.slice(2);
const c = cLines(program);
await c.next(1);
guard.add(everyone);
for (const batch of BATCHES) {
  const states = new Map<TcpState, TcpImage[]>();
  for (const state of ["ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT2", "LAST_ACK"] as const) {
    states.set(state, imagesOf(batch, state));
  }
  for (let round = 0; round < Number(rounds) + WARM_UP_ROUNDS; round++) {
    const report = (what: string, variant: string, us: number): void => {
      if (round >= WARM_UP_ROUNDS) console.log(JSON.stringify({ what, batch, variant, us: us / batch }));
    };
    for (const [state, images] of states) {
      const { us, result } = timed(() => held(restore(kit, images)));
      report("restore", state, us);
      if (state === "ESTABLISHED") {
        report("dump", "all options", timed(() => result.map((one) => dump(one))).us);
        const options = images[0]!.live!.options;
        report(
          "dump",
          "options known from a like connection",
          timed(() => result.map((one) => dump(one, { options }))).us,
        );
      }
      for (const { fd } of result) libc.close(fd);
    }
    const { value } = await c.next(batch);
    if (value === undefined) continue;
    report("restore", "C, a half-open", value[0]!);
    report("dump", "C, all options", value[1]!);
    report("dump", "C, options known", value[2]!);
  }
}
guard.remove(everyone);
guard.close();
kit.close();
process.exit(0);
