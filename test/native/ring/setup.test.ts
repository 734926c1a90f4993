// Goal: the ring starts with whatever optional features there are, and a refusal says what is missing.
// Method: features switched off one by one on the real kernel; system calls refused by a real seccomp filter.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { EACCES, EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM } from "../../../native/abi/errno.ts";
import { probeRing } from "../../../native/ring/probe.ts";
import { Ring } from "../../../native/ring/ring.ts";
import { RING_FEATURE_NAMES, RING_FEATURES } from "../../../native/ring/setup.ts";
import { explainRefusal, RingUnavailableError } from "../../../native/ring/unavailable.ts";

const features = suite("ring: features");
for (const name of RING_FEATURE_NAMES) {
  const { kind, required, since } = RING_FEATURES[name];
  features(`given no ${name}, then ${required ? "the error names it" : "the ring does without"}`, () => {
    const probe = probeRing([name]);
    assert.is(probe.available, !required);
    const group = kind === "flag" ? probe.flags : kind === "operation" ? probe.ops : probe.features;
    assert.is(group[name], false);
    assert.equal(probe.missing, required ? [`${name} (Linux ${since})`] : []);
    if (required) {
      assert.throws(
        () => new Ring({ entries: 8, without: [name] }),
        (error: unknown) =>
          error instanceof RingUnavailableError &&
          error.code === "ACCEL_RING_UNAVAILABLE" &&
          error.reason === "missing-feature" &&
          error.message.includes(name),
      );
    } else {
      const ring = new Ring({ entries: 8, without: [name] });
      assert.is(ring.features.has(name), false);
      assert.is(ring.enter(1), "timeout");
      ring.close();
    }
  });
}

features("given several missing, then all are named together", () => {
  assert.equal(probeRing(["IORING_OP_SEND", "IORING_OP_RECV"]).missing, [
    "IORING_OP_SEND (Linux 5.6)",
    "IORING_OP_RECV (Linux 5.6)",
  ]);
});

features("given no SINGLE_ISSUER, then DEFER_TASKRUN goes too and COOP_TASKRUN comes", () => {
  const ring = new Ring({ entries: 8, without: ["IORING_SETUP_SINGLE_ISSUER"] });
  assert.is(ring.features.has("IORING_SETUP_DEFER_TASKRUN"), false);
  assert.is(ring.features.has("IORING_SETUP_COOP_TASKRUN"), true);
  ring.close();
});

features("given no CQSIZE, then the kernel's default of twice the entries", () => {
  const plain = new Ring({ entries: 8, without: ["IORING_SETUP_CQSIZE"] });
  assert.is(plain.completions.entries, 16);
  plain.close();
  const sized = new Ring({ entries: 5 });
  assert.equal([sized.submissions.entries, sized.completions.entries], [8, 64]);
  sized.close();
});

for (const entries of [0, -1, 1.5, 32769, Number.NaN]) {
  features(`given ${entries} entries, then RangeError`, () => {
    assert.throws(
      () => new Ring({ entries }),
      (error: unknown) => error instanceof RangeError,
    );
  });
}

features("given many rings one after the other, then no descriptor is left behind", () => {
  for (let i = 0; i < 2000; i++) new Ring({ entries: 1 }).close();
  for (let i = 0; i < 200; i++) probeRing(["IORING_OP_RECV"]);
});
features.run();

const refusal = suite("ring: refusal");
for (const [errno, disabled, reason, text] of [
  [EPERM, 1, "disabled", /kernel\.io_uring_disabled = 1.*sysctl kernel\.io_uring_disabled=0/],
  [EPERM, 2, "disabled", /kernel\.io_uring_disabled = 2/],
  [EPERM, 0, "denied", /seccomp/],
  [EACCES, 0, "denied", /seccomp/],
  [ENOSYS, 0, "unsupported", /CONFIG_IO_URING/],
  [ENOMEM, 0, "memory", /RLIMIT_MEMLOCK = (\d+|unlimited) bytes.*LimitMEMLOCK/],
  [EMFILE, 0, "descriptors", /RLIMIT_NOFILE/],
  [ENFILE, 0, "descriptors", /fs\.file-max/],
  [EINVAL, 0, "missing-feature", /Linux 5\.19/],
  [9999, 0, "failed", /E#9999/],
] as const) {
  refusal(`given error ${errno} with io_uring_disabled ${disabled}, then ${reason}`, () => {
    const error = explainRefusal("io_uring_setup", errno, disabled);
    assert.is(error.reason, reason);
    assert.match(error.message, text);
    assert.ok(error.message.startsWith("io_uring is unavailable: io_uring_setup gives "));
  });
}

for (const [errno, reason, text] of [
  [EPERM, "denied", /io_uring_setup gives EPERM.*seccomp/],
  [ENOSYS, "unsupported", /ENOSYS/],
  [ENOMEM, "memory", /ENOMEM with RLIMIT_MEMLOCK/],
] as const) {
  refusal(`given a seccomp filter that answers ${errno}, then ${reason}`, async () => {
    const loader = import.meta.resolve("tsx/esm/api"); // on Node 20 a worker does not inherit tsx
    const script = new URL("./seccomp-worker.ts", import.meta.url).href;
    const code = `import("${loader}").then((tsx) => { tsx.register(); return import("${script}"); })`;
    const worker = new Worker(code, { eval: true, workerData: { errno } });
    const [answer] = await once(worker, "message");
    await worker.terminate();
    assert.is(answer.reason, reason);
    assert.is(answer.code, "ACCEL_RING_UNAVAILABLE");
    assert.match(answer.message, text);
    assert.is(answer.probe.available, false);
    assert.is(answer.probe.missing.length, 1);
    assert.ok(Object.values(answer.probe.flags).every((has) => has === false));
  });
}
refusal.run();
