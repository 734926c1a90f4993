// Goal: an impairment does to packets what its settings say, repeatably.
// Method: 20,000 packets at 1,000 a second through schedule(), which knows no clock.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Impairment, type ImpairmentSettings } from "../../bench/lab/impairment.ts";
import { LabError } from "../../bench/lab/lab-error.ts";

const PACKETS = 20_000;

interface Outcome {
  readonly enteredMs: number;
  readonly fate: string;
  readonly dueMs: number;
  readonly late: boolean;
  readonly copies: number;
}

function run(settings: Partial<ImpairmentSettings>, stream = 0, lengthBytes = 1000): Outcome[] {
  const impairment = new Impairment(stream);
  impairment.set(settings);
  return Array.from({ length: PACKETS }, (_, enteredMs) => ({
    enteredMs,
    ...impairment.schedule(enteredMs, lengthBytes),
  }));
}

function delivered(outcomes: readonly Outcome[]): Outcome[] {
  return outcomes.filter(({ fate }) => fate === "deliver");
}

function overtakings(outcomes: readonly Outcome[]): number {
  const inOrder = delivered(outcomes);
  return inOrder.filter(({ dueMs }, index) => index > 0 && dueMs < inOrder[index - 1]!.dueMs).length;
}

const impairment = suite("lab: impairment");

impairment("given a delay alone, then each packet leaves exactly that much later", () => {
  for (const { enteredMs, dueMs } of run({ delayMs: 20.25 })) assert.is(dueMs, enteredMs + 20.25);
});

for (const loss of [0, 0.001, 0.1, 0.5, 1]) {
  impairment(`given a loss of ${loss}, then that share is lost, within four deviations`, () => {
    const lost = PACKETS - delivered(run({ loss, seed: 7 })).length;
    const margin = 4 * Math.sqrt(PACKETS * loss * (1 - loss));
    assert.ok(Math.abs(lost - PACKETS * loss) <= margin, `${lost} lost`);
  });
}

impairment(
  "given the same seed, then the same fates; given another or the other direction, then others",
  () => {
    const fates = (seed: number, stream: number): string =>
      run({ loss: 0.1, seed }, stream)
        .map((o) => o.fate)
        .join();
    assert.is(fates(3, 0), fates(3, 0));
    assert.is.not(fates(3, 0), fates(4, 0));
    assert.is.not(fates(3, 0), fates(3, 1));
  },
);

impairment("given jitter on top, then the same packets are lost", () => {
  const fates = (jitterMs: number): string =>
    run({ loss: 0.1, jitterMs, delayMs: 9 })
      .map((o) => o.fate)
      .join();
  assert.is(fates(0), fates(5));
});

impairment("given jitter alone, then delays vary within it and nothing is overtaken", () => {
  const outcomes = run({ delayMs: 20, jitterMs: 5 });
  assert.is(overtakings(outcomes), 0);
  const delays = outcomes.map(({ enteredMs, dueMs }) => dueMs - enteredMs);
  assert.ok(Math.min(...delays) >= 15 && Math.max(...delays) <= 25);
  assert.ok(Math.max(...delays) - Math.min(...delays) > 5);
});

impairment("given jitter above the delay, then no packet leaves before it entered", () => {
  for (const { enteredMs, dueMs } of run({ delayMs: 1, jitterMs: 5 })) assert.ok(dueMs >= enteredMs);
});

impairment("given reorder, then about that share is overtaken", () => {
  const count = overtakings(run({ delayMs: 20, reorder: 0.05, reorderMs: 3 }));
  assert.ok(count > PACKETS * 0.04 && count < PACKETS * 0.06, `${count} overtaken`);
});

impairment("given duplicate, then about that share leaves twice", () => {
  const count = run({ duplicate: 0.1 }).filter(({ copies }) => copies === 2).length;
  assert.ok(Math.abs(count - PACKETS * 0.1) < 170, `${count} copies`);
});

impairment("given a rate, then packets queue behind each other", () => {
  // 1,000 packets a second of 1,000 bytes at 500,000 bytes a second: each takes 2 ms.
  const outcomes = run({ delayMs: 10, rateBytesPerSecond: 500_000 });
  for (const index of [0, 1, 100]) assert.is(outcomes[index]!.dueMs, (index + 1) * 2 + 10);
});

impairment("given a cut line, then nothing passes", () => {
  assert.is(delivered(run({ up: false })).length, 0);
});

impairment("given a shorter delay at run time, then later packets do not overtake earlier ones", () => {
  const subject = new Impairment();
  subject.set({ delayMs: 100 });
  const before = subject.schedule(0, 100).dueMs;
  subject.set({ delayMs: 1 });
  assert.is(subject.schedule(5, 100).dueMs, before);
  assert.is(subject.schedule(200, 100).dueMs, 201);
});

for (const settings of [
  { loss: 1.1 },
  { duplicate: -0.1 },
  { reorder: Number.NaN },
  { delayMs: -1 },
  { jitterMs: 1e9 },
  { rateBytesPerSecond: -1 },
]) {
  impairment(`given ${Object.entries(settings).join()}, then it is refused and nothing changes`, () => {
    const subject = new Impairment();
    assert.throws(
      () => subject.set(settings),
      (error: unknown) => error instanceof LabError && error.code === "ACCEL_LAB_USAGE",
    );
    assert.is(subject.settings.delayMs, 0);
  });
}

impairment.run();
