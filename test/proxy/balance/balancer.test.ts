// Goal: a server that fails is left out and comes back, the last ones never are, a limit is never exceeded, and nobody
// in line is forgotten. Method: two threads' views of the same memory, turned by hand with a clock of the test's own.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { EventFd } from "../../../native/eventfd.ts";
import { PollSet } from "../../../native/net/poll-set.ts";
import { type BalancedServer, Balancer } from "../../../proxy/balance/balancer.ts";
import * as limits from "../../../proxy/balance/limits.ts";
import { Line, type Waiter } from "../../../proxy/balance/line.ts";
import type { Policy } from "../../../proxy/balance/policies.ts";
import { ServerState } from "../../../proxy/balance/server-state.ts";

/** An upstream that two threads see. */
class Scene {
  readonly log: string[] = [];
  readonly wakers = [new EventFd(), new EventFd()] as const;
  readonly states: ServerState[];
  readonly views: readonly [Balancer<BalancedServer>, Balancer<BalancedServer>];

  constructor(servers: number, maxConnections = 0, policy: Policy = "round-robin") {
    const wakeFds = new SharedArrayBuffer(8);
    new Int32Array(wakeFds).set(this.wakers.map(({ fd }) => fd.number));
    const line = Line.create(wakeFds);
    this.states = Array.from({ length: servers }, () => new ServerState());
    const note = (_: object, message: string): void => void this.log.push(message);
    const view = (thread: number): Balancer<BalancedServer> =>
      new Balancer({
        name: "u",
        policy,
        servers: this.states.map(({ buffer }, index) => ({
          name: "abc"[index]!,
          weight: 1,
          maxConnections,
          state: new ServerState(buffer),
        })),
        line: new Line(line, thread),
        log: { debug: note, info: note, warn: note },
      });
    this.views = [view(0), view(1)];
  }

  /** Names of `count` choices in a row, each released. */
  chosen(count: number, nowMs: number): string {
    const [view] = this.views;
    return Array.from({ length: count }, () => {
      const server = view.choose(nowMs);
      if (typeof server !== "object") return String(server);
      view.release(server);
      return server.name;
    }).join("");
  }

  fail(name: string, times: number, nowMs: number): void {
    const [view] = this.views;
    for (let time = 0; time < times; time++) view.failed(view.named(name)!, nowMs);
  }

  isAwake(thread: 0 | 1): boolean {
    const poll = new PollSet([this.wakers[thread].fd]);
    const woken = Boolean(poll.wait(0));
    poll.close();
    this.wakers[thread].drain();
    return woken;
  }
}

/** Somebody in line at a view, who keeps the place he finds. */
class Guest implements Waiter {
  server: BalancedServer | undefined;
  readonly #view: Balancer<BalancedServer>;

  constructor(view: Balancer<BalancedServer>) {
    this.#view = view;
  }

  seek(nowMs: number): boolean {
    const server = this.#view.choose(nowMs, [], true);
    if (typeof server !== "object") return false;
    this.server = server;
    return true;
  }

  /** Stands in line as a session does. */
  stand(max = 10): boolean {
    const stood = this.#view.line.stand(this, max);
    if (stood) this.#view.line.serve(0);
    return stood;
  }
}

const ejection = suite("balancer: ejection");
ejection("given failures in a row, then the server is left out, and one line says so", () => {
  const scene = new Scene(3);
  scene.fail("b", limits.FAILURES_MAX - 1, 0);
  assert.is(scene.chosen(3, 0), "abc");
  scene.fail("b", 5, 0);
  assert.is(scene.chosen(4, 1), "acac");
  assert.equal(scene.log, ["server avoided: connects fail"]);
  assert.is(scene.states[1]!.condition, "ejected");
});
ejection("given a success between failures, then it is not left out", () => {
  const scene = new Scene(2);
  const [view] = scene.views;
  scene.fail("b", limits.FAILURES_MAX - 1, 0);
  view.reached(view.named("b")!);
  scene.fail("b", limits.FAILURES_MAX - 1, 0);
  assert.is(scene.chosen(4, 0), "abab");
  assert.equal(scene.log, []);
});
ejection(
  "given its time is over, then one session of all threads tries it, and success brings it back",
  () => {
    const scene = new Scene(2);
    const [here, there] = scene.views;
    scene.fail("b", limits.FAILURES_MAX, 0);
    const due = limits.EJECTION_MIN + 2;
    const names = [here, there, here, there].map((view) => {
      const server = view.choose(due);
      return typeof server === "object" ? server.name : server;
    });
    assert.is(names.filter((name) => name === "b").length, 1, String(names));
    there.reached(there.named("b")!);
    assert.is(scene.states[1]!.condition, "up");
    assert.equal(scene.log, ["server avoided: connects fail", "server used again: it accepts connections"]);
  },
);
ejection("given trials that fail, then the time until the next doubles up to a limit", () => {
  const scene = new Scene(2);
  scene.fail("b", limits.FAILURES_MAX, 0);
  const waits: number[] = [];
  let last = 0;
  for (let now = 0; waits.length < 8; now += 100) {
    if (!scene.chosen(2, now).includes("b")) continue;
    waits.push(Math.round((now - last) / 1_000));
    last = now;
    scene.fail("b", 1, now);
  }
  assert.equal(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
  assert.is(scene.log.length, 1);
});
ejection("given all are out, then all are used", () => {
  const scene = new Scene(2);
  for (const name of ["a", "b"]) scene.fail(name, limits.FAILURES_MAX, 0);
  assert.is(scene.chosen(4, 1), "abab");
});
ejection("given the only one that is used was tried, then one that is out is better than none", () => {
  const scene = new Scene(2);
  const [view] = scene.views;
  scene.states[1]!.isUnhealthy = true;
  assert.is(scene.chosen(2, 0), "aa");
  assert.is(view.choose(0, [view.named("a")!]), view.named("b"));
  assert.is(view.choose(0, [view.named("a")!, view.named("b")!]), undefined);
});
ejection.run();

const places = suite("balancer: places");
places("given limits, then full servers are passed over, and when all are, full", () => {
  const scene = new Scene(2, 2);
  const [here, there] = scene.views;
  const taken = [here, there, here, there].map((view) => view.choose(0) as BalancedServer);
  assert.equal(taken.map(({ name }) => name).toSorted(), ["a", "a", "b", "b"]);
  assert.is(here.choose(0), "full");
  assert.equal(
    scene.states.map(({ active }) => active),
    [2, 2],
  );
});
places("given a place that becomes free, then whoever came first has it, wherever it is", () => {
  const scene = new Scene(2, 1);
  const [here, there] = scene.views;
  const [a, b] = [here.choose(0) as BalancedServer, here.choose(0) as BalancedServer];
  const [first, second] = [new Guest(there), new Guest(there)];
  assert.ok(first.stand() && second.stand());
  here.release(b);
  assert.is(there.choose(0), "full", "others wait already");
  assert.ok(scene.isAwake(1) && !scene.isAwake(0));
  there.line.serve(0);
  assert.equal([first.server?.name, second.server], [b.name, undefined]);
  here.release(a);
  there.line.serve(0);
  assert.is(second.server?.name, a.name);
  assert.is(here.line.length, 0);
});
places("given two free places and one who is called twice, then the next thread is called too", () => {
  const scene = new Scene(2, 1);
  const [here, there] = scene.views;
  const taken = [here.choose(0) as BalancedServer, here.choose(0) as BalancedServer];
  const [one, other] = [new Guest(here), new Guest(there)];
  assert.ok(one.stand() && other.stand());
  for (const server of taken) here.release(server);
  scene.isAwake(1);
  here.line.serve(0); // as if both calls had come here
  assert.ok(one.server);
  assert.ok(scene.isAwake(1));
  there.line.serve(0);
  assert.ok(other.server);
});
places("given a line of its bound, then the next is refused and counted", () => {
  const scene = new Scene(1, 1);
  const [here, there] = scene.views;
  here.choose(0);
  assert.equal(
    [here, there, here].map((view) => new Guest(view).stand(2)),
    [true, true, false],
  );
  assert.equal([here.line.length, here.line.refused], [2, 1]);
});
places("given one who leaves the line, then the others keep their order", () => {
  const scene = new Scene(1, 1);
  const [here] = scene.views;
  const server = here.choose(0) as BalancedServer;
  const [first, second] = [new Guest(here), new Guest(here)];
  assert.ok(first.stand() && second.stand());
  here.line.leave(first);
  here.release(server);
  here.line.serve(0);
  assert.equal([first.server, second.server], [undefined, server]);
});
places("given an ejected server that is used again, then who waits is called", () => {
  const scene = new Scene(2, 1);
  const [here, there] = scene.views;
  scene.fail("b", limits.FAILURES_MAX, 0);
  here.choose(0);
  const guest = new Guest(there);
  assert.ok(guest.stand());
  assert.is(guest.server, undefined);
  here.reached(here.named("b")!);
  assert.ok(scene.isAwake(1));
  there.line.serve(0);
  assert.is(guest.server?.name, "b");
});
places("given a thread that sleeps in Node's event loop, then called() wakes it", async () => {
  const words = Line.create(new SharedArrayBuffer(8));
  const [here, there] = [new Line(words, 0), new Line(words, 1)];
  here.stand({ seek: () => true }, 1);
  let isCalled = false;
  const called = here.called().then(() => {
    isCalled = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.not(isCalled);
  there.call();
  const limit = setTimeout(() => assert.unreachable("not called within 5 s"), 5_000);
  await called;
  clearTimeout(limit);
});
places.run();
