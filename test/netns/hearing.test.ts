// Goal: all ways of hearing tell the same of a segment, and a RST is known before its socket fails; the ring hears
// nothing else, survives a flood, and is not needed. Method: the loopback of a namespace of our own.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { formatAddress } from "../../native/address.ts";
import { nowMs } from "../../native/clock.ts";
import { check } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import { libc } from "../../native/libc.ts";
import { PollSet } from "../../native/net/poll-set.ts";
import { restorePlan } from "../../native/repair/plan.ts";
import { restoreBySyscalls } from "../../native/repair/restore.ts";
import { setLingerZero, takeSocketError } from "../../native/sockopt.ts";
import { ACK, RST, SYN, type TcpSegment } from "../../native/wire/tcp.ts";
import { HalfOpen, hear, loopback, onlyFor } from "./half-open.ts";

const ECONNRESET = 104;
const OPTIONS = { mss: 1_400, sackPermitted: true, tsval: 5, tsecr: 6, wscale: 9 };

const hearing = suite("hearing");
const bpf = onlyFor("bpf", hearing);

for (const kind of ["raw", "bpf", "steered"] as const) {
  for (const family of [4, 6] as const) {
    onlyFor(kind, hearing)(
      `given a SYN-ACK over IPv${family}, ${kind}, then all of it, and when it came`,
      () => {
        using halfOpen = new HalfOpen(family, kind);
        halfOpen.hearFrom(999);
        const address = loopback(family);
        const ends = { src: address, dst: address, sport: 999, dport: halfOpen.reservation.port };
        const sent = {
          seq: 0xffff_fff0,
          ack: 0x8000_0001,
          flags: SYN | ACK,
          window: 4_321,
          options: OPTIONS,
        };
        const beforeMs = nowMs();
        halfOpen.sender.send({ ...ends, ...sent, ttl: 77 });
        const afterMs = nowMs();
        const heard: { from: string; segment: TcpSegment; arrivedMs: number; ttl: number | undefined }[] = [];
        halfOpen.receiver.drain((source, _to, segment, arrivedMs, ttl) => {
          heard.push({ from: formatAddress(source), segment, arrivedMs, ttl });
        });
        assert.is(heard.length, 1);
        const { from, segment, arrivedMs, ttl } = heard[0]!;
        const { sport, dport, seq, ack, flags, window, options } = segment;
        assert.equal({ seq, ack, flags, window, options }, sent);
        assert.equal([from, sport, dport], [formatAddress(address), 999, halfOpen.reservation.port]);
        assert.is(ttl, kind === "raw" && family === 6 ? undefined : 77);
        // The raw socket's time stamp is of another clock: its reader may be interrupted while it looks at both.
        const latestMs = kind === "raw" ? nowMs() : afterMs;
        assert.ok(arrivedMs > beforeMs - 0.1 && arrivedMs < latestMs + 0.1, `${arrivedMs - beforeMs} ms`);
      },
    );

    onlyFor(kind, hearing)(
      `given a connection reset over IPv${family}, ${kind}, then its RST is heard first`,
      () => {
        using halfOpen = new HalfOpen(family, kind);
        const { image } = halfOpen.open();
        using ours = new Fd(restoreBySyscalls(restorePlan(image)));
        const bytes = Buffer.alloc(100_000);
        check(Number(libc.write(ours.number, bytes, bytes.length)), "write", {});
        const theirs = new Fd(check(libc.accept4(halfOpen.listener.number, null, null, 0), "accept4", {}));
        setLingerZero(theirs.number);
        theirs.close();
        assert.is(takeSocketError(ours.number), ECONNRESET);
        // What is read now was there before the error was.
        const heard: number[] = [];
        halfOpen.receiver.drain((_source, _to, { flags, dport }) => {
          if (dport === halfOpen.reservation.port) heard.push(flags);
        });
        assert.equal(heard, [RST | ACK]);
      },
    );
  }
}

for (const kind of ["bpf", "steered"] as const) {
  onlyFor(kind, hearing)(
    `given a SYN-ACK for a tuple in TIME_WAIT, ${kind}, then nobody hears it, and the port goes on`,
    () => {
      using halfOpen = new HalfOpen(4, kind);
      const { image, synAck } = halfOpen.open();
      const ours = new Fd(restoreBySyscalls(restorePlan(image)));
      check(Number(libc.write(ours.number, Buffer.from("x"), 1)), "write", {});
      using theirs = new Fd(check(libc.accept4(halfOpen.listener.number, null, null, 0), "accept4", {}));
      assert.is(Number(libc.read(theirs.number, Buffer.alloc(1), 1)), 1);
      ours.close();
      theirs.close();
      assert.is(inTimeWait(halfOpen.reservation.port), 1);
      const ends = {
        src: loopback(4),
        dst: loopback(4),
        sport: halfOpen.port,
        dport: halfOpen.reservation.port,
      };
      const { seq, ack, flags, window } = synAck;
      halfOpen.sender.send({ ...ends, seq, ack, flags, window, ttl: 64, options: {} });
      assert.equal(hear(halfOpen.receiver, 1, 30), []);
      halfOpen.hearFrom(999);
      halfOpen.sender.send({ ...ends, sport: 999, seq, ack, flags, window, ttl: 64, options: {} });
      assert.is(hear(halfOpen.receiver, 1, 1_000).length, 1, "another upstream's is heard");
    },
  );
}

/** Sockets in TIME_WAIT whose own port it is. */
function inTimeWait(port: number): number {
  const { stdout } = spawnSync("ss", ["-tanH", "state", "time-wait", `sport = :${port}`], {
    encoding: "utf8",
  });
  return stdout.split("\n").length - 1;
}

bpf("given other ports' handshakes and bulk data, bpf, then it hears none of it", () => {
  using halfOpen = new HalfOpen(4, "bpf");
  using other = new HalfOpen(4, "raw");
  other.open();
  const { image } = halfOpen.open();
  using ours = new Fd(restoreBySyscalls(restorePlan(image)));
  const bytes = Buffer.alloc(100_000);
  check(Number(libc.write(ours.number, bytes, bytes.length)), "write", {});
  assert.equal(hear(halfOpen.receiver, 1, 30), []);
});

bpf("given two in one namespace, then each hears its own", () => {
  using first = new HalfOpen(4, "bpf");
  using second = new HalfOpen(4, "bpf");
  first.send({ seq: 1, ack: 0, flags: SYN, options: {} });
  second.send({ seq: 2, ack: 0, flags: SYN, options: {} });
  for (const { receiver, reservation } of [first, second]) {
    assert.equal(
      hear(receiver, 2, 30).map(({ dport }) => dport),
      [reservation.port],
    );
  }
});

bpf("given a sleeper, bpf, then a SYN-ACK wakes it, and a nap does not notice", () => {
  using halfOpen = new HalfOpen(4, "bpf");
  using asleep = new PollSet(halfOpen.receiver.fds);
  using napping = new PollSet(halfOpen.receiver.urgentFds);
  assert.is(asleep.wait(0), 0);
  halfOpen.send({ seq: 1, ack: 0, flags: SYN, options: {} });
  assert.equal([asleep.wait(1_000), napping.wait(0)], [1, 0]);
});

bpf("given more than the ring holds, then the rest is counted, and later ones are heard", () => {
  using halfOpen = new HalfOpen(4, "bpf");
  const address = loopback(4);
  const ends = { src: address, dst: address, sport: 999, dport: halfOpen.reservation.port };
  const flood = (count: number): number => {
    for (let seq = 0; seq < count; seq++) {
      halfOpen.sender.send({ ...ends, seq, ack: 1, flags: SYN | ACK, window: 1, ttl: 64, options: {} });
    }
    let heard = 0;
    halfOpen.receiver.drain((_source, _to, { seq }) => {
      assert.is(seq, heard);
      heard += 1;
    });
    return heard;
  };
  const heard = flood(3_000);
  assert.ok(heard > 2_000 && heard < 3_000, `${heard}`);
  assert.is(halfOpen.receiver.lost, 3_000 - heard);
  // The ring's end is passed several times, at another place each time.
  for (let round = 0; round < 5; round++) assert.is(flood(1_999), 1_999);
  assert.is(halfOpen.receiver.lost, 3_000 - heard);
});

hearing("given no CAP_BPF, then the raw socket, unless bpf was asked for", () => {
  const script = fileURLToPath(new URL("./hearing-unprivileged.ts", import.meta.url));
  const preload = new URL("../../scripts/typescript.mjs", import.meta.url).href;
  const drop = ["--bounding-set", "-bpf,-sys_admin", "--"];
  const { stdout, stderr } = spawnSync("setpriv", [...drop, process.execPath, "--import", preload, script], {
    encoding: "utf8",
  });
  assert.is(stdout, "auto: raw\nbpf: EPERM\n", stderr);
});

hearing.run();
