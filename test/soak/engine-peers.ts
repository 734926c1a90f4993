/**
 * Both ends of the engine soak in one thread on the io_uring driver: clients that connect at a steady rate, and the
 * upstream they reach through the proxy. Either end checks every byte against what the other sends, and that each
 * connection ends as it was ended: a FIN by a FIN, a reset by a reset, and no request seen twice.
 *
 *   engine-peers RATE SECONDS SEED
 *
 * Prints JSON, a line each: { port } of the upstream; reads the proxy's port; then counts every second, and last with
 * `done`. A connection's plan is drawn at random and travels in its first 16 bytes.
 */
import { once } from "node:events";
import { createInterface } from "node:readline";
import { Random } from "../../bench/lab/random.ts";
import { SHUT_WR } from "../../native/abi/socket.ts";
import { encodeSockaddr } from "../../native/address.ts";
import { Memory } from "../../native/memory.ts";
import { listenTcp, localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import { setLingerZero } from "../../native/sockopt.ts";
import { createIoUringDriver } from "../../proxy/engine/io-uring-driver.ts";

const RECV = 0;
const SEND = 1;
const CONNECT = 2;
const ACCEPT_SLOT = 1_000_000;
const HEADER_BYTES = 16;
/** A header and a short request in one segment. */
const FIRST_BYTES = HEADER_BYTES + 1_024;
const ENDS_MAX = 8_192;
const PERIOD = 65_537;
const BODY_MAX = 200_000;
const STUCK_MS = 20_000;
const PROBLEMS_SHOWN = 20;
/** Client addresses' other ends: each has 55,000 ports, and a port rests for a while. */
const ADDRESSES = 200;
/** How long after its request a client of the plan "gives up" resets. */
const PATIENCE_MS = 8;

/** close: the client waits for the upstream's FIN. half-close: the upstream for the client's. The others reset. */
const PLANS = ["close", "half-close", "client resets", "upstream resets"] as const;
type Plan = (typeof PLANS)[number];

/** One end of a connection. */
interface End {
  readonly slot: number;
  readonly isClient: boolean;
  readonly sinceMs: number;
  fd: number;
  outstanding: number;
  id: number;
  plan: Plan;
  /** Pattern and length of what it sends, and of what it must receive. */
  out: number;
  outBytes: number;
  in: number;
  inBytes: number;
  received: number;
  sent: number;
  /** Of the header, as it comes in. */
  headerBytes: number;
  sawEnd: boolean;
}

const [rate = 0, seconds = 0, seed = 1] = process.argv.slice(2).map(Number);
const random = new Random(seed);
const driver = createIoUringDriver({
  entries: 1_024,
  bufferCount: 4_096,
  bufferKeep: 256,
  bufferSize: 32_768,
});
const block = Memory.anonymous(PERIOD + BODY_MAX);
for (let at = 0; at < PERIOD; at++) block.bytes[at] = random.next() * 256;
for (let at = PERIOD; at < block.size; at++) block.bytes[at] = block.bytes[at - PERIOD]!;
const firsts = Memory.anonymous(ENDS_MAX * FIRST_BYTES);
const sockaddr = Memory.anonymous(128);
const ends: (End | undefined)[] = [];
const freeSlots = Array.from({ length: ENDS_MAX }, (_, slot) => ENDS_MAX - 1 - slot);
const giveUps: { end: End; id: number; atMs: number }[] = [];
const seen = new Uint8Array(8_000_000);
const counts = { started: 0, ended: 0, skipped: 0, bytes: 0 };
const plans: Record<Plan, number> = { close: 0, "half-close": 0, "client resets": 0, "upstream resets": 0 };
const problems: string[] = [];
let problemCount = 0;

function problem(end: End, what: string): void {
  problemCount += 1;
  const side = end.isClient ? "client" : "upstream";
  if (problems.length < PROBLEMS_SHOWN)
    problems.push(`${side} of ${end.id} (${end.plan}): ${what}, ${end.received} of ${end.inBytes} bytes`);
}

function open(fd: number, isClient: boolean): End {
  const slot = freeSlots.pop()!;
  const end: End = {
    ...{
      slot,
      isClient,
      sinceMs: performance.now(),
      fd,
      outstanding: 0,
      id: -1,
      plan: "close",
      out: 0,
      outBytes: 0,
    },
    ...{ in: 0, inBytes: 0, received: 0, sent: 0, headerBytes: 0, sawEnd: false },
  };
  ends[slot] = end;
  return end;
}

/** Lets go of an end; its slot is used again when its last request is over. */
function close(end: End, how: "fin" | "reset"): void {
  if (end.fd < 0) return;
  if (how === "reset") setLingerZero(end.fd);
  for (const tag of [RECV, SEND, CONNECT]) driver.cancel(end.slot, tag);
  driver.close(end.fd);
  end.fd = -1;
  if (end.isClient) counts.ended += 1;
}

function lengths(): [number, number] {
  const draw = random.next();
  const short = (): number => Math.floor(random.next() * 1_024);
  if (draw < 0.95) return [short(), short()];
  return [Math.floor(random.next() * BODY_MAX), Math.floor(random.next() * BODY_MAX)];
}

function drawPlan(): Plan {
  const draw = random.next();
  // Each half-close makes the proxy's side close first, and its port rests for a minute.
  return draw < 0.86
    ? "close"
    : draw < 0.9
      ? "half-close"
      : draw < 0.95
        ? "client resets"
        : "upstream resets";
}

function patterns(end: End): void {
  const request = (end.id * 7_919) % PERIOD;
  const answer = (end.id * 104_729 + 31) % PERIOD;
  [end.out, end.in] = end.isClient ? [request, answer] : [answer, request];
}

function recv(end: End): void {
  end.outstanding += 1;
  driver.recv(end.fd, end.slot, RECV);
}

function send(end: End, address: number, length: number): void {
  end.outstanding += 1;
  driver.send(end.fd, address, length, end.slot, SEND);
}

function startClient(proxyPort: number): void {
  const end = open(newTcpSocket(4, 0).release(), true);
  end.id = counts.started++;
  end.plan = drawPlan();
  plans[end.plan] += 1;
  [end.outBytes, end.inBytes] = lengths();
  patterns(end);
  const address = encodeSockaddr({ address: `127.0.0.${1 + (end.id % ADDRESSES)}`, port: proxyPort });
  sockaddr.bytes.set(address);
  end.outstanding += 1;
  driver.connect(end.fd, sockaddr.address, address.length, end.slot, CONNECT);
}

/** The header, and with it as much of the request as fits. */
function sendFirst(end: End): void {
  const at = end.slot * FIRST_BYTES;
  [end.id, end.outBytes, end.inBytes, PLANS.indexOf(end.plan)].forEach((value, index) => {
    firsts.view.setUint32(at + 4 * index, value, true);
  });
  const body = Math.min(end.outBytes, FIRST_BYTES - HEADER_BYTES);
  firsts.bytes.set(block.bytes.subarray(end.out, end.out + body), at + HEADER_BYTES);
  end.sent = -HEADER_BYTES;
  send(end, firsts.address + at, HEADER_BYTES + body);
}

/** Reads the header as it comes; returns what follows it. */
function readHeader(end: End, bytes: Uint8Array): Uint8Array {
  const take = Math.min(HEADER_BYTES - end.headerBytes, bytes.length);
  const at = end.slot * FIRST_BYTES;
  firsts.bytes.set(bytes.subarray(0, take), at + end.headerBytes);
  end.headerBytes += take;
  if (take === 0 || end.headerBytes < HEADER_BYTES) return bytes.subarray(take);
  const [id = 0, inBytes = 0, outBytes = 0, plan = 0] = [0, 4, 8, 12].map((field) =>
    firsts.view.getUint32(at + field, true),
  );
  Object.assign(end, { id, inBytes, outBytes, plan: PLANS[plan] ?? "close" });
  patterns(end);
  if (seen[id] !== 0) problem(end, "seen twice");
  seen[id] = 1;
  return bytes.subarray(take);
}

/** The upstream answers when it has all of the request, and its end where the plan has one. */
function answerWhenDue(end: End): void {
  const isWhole = end.headerBytes === HEADER_BYTES && end.received === end.inBytes;
  if (!isWhole || end.sent > 0 || (end.plan === "half-close" && !end.sawEnd)) return;
  const cut = end.plan === "upstream resets" ? Math.floor(end.outBytes / 2) : end.outBytes;
  if (cut > 0) send(end, block.address + end.out, cut);
  else finishUpstream(end);
}

function finishUpstream(end: End): void {
  close(end, end.plan === "upstream resets" ? "reset" : "fin");
}

function onReceived(end: End, bufferId: number, length: number): void {
  let bytes = driver.buffers.bytes(bufferId, length);
  if (!end.isClient) bytes = readHeader(end, bytes);
  const expected = block.bytes.subarray(end.in + end.received, end.in + end.received + bytes.length);
  if (end.received + bytes.length > end.inBytes) problem(end, `${bytes.length} bytes more than were sent`);
  else if (Buffer.compare(bytes, expected) !== 0) problem(end, "wrong bytes");
  end.received += bytes.length;
  counts.bytes += bytes.length;
  driver.release(bufferId);
  if (end.fd < 0) return;
  recv(end);
  if (!end.isClient) answerWhenDue(end);
}

/** The other end is over, by a FIN (0) or an error. */
function onOver(end: End, result: number): void {
  end.sawEnd = true;
  const isReset = result < 0;
  if (end.isClient) {
    const mayReset = end.plan === "upstream resets";
    if (isReset !== mayReset) problem(end, isReset ? `error ${-result}` : "a FIN in place of a reset");
    else if (!isReset && end.received !== end.inBytes) problem(end, "a FIN before the end");
    else if (!isReset && seen[end.id] !== 1) problem(end, "never seen");
    close(end, "fin");
    return;
  }
  if (end.plan === "half-close" && !isReset) {
    if (end.received === end.inBytes) answerWhenDue(end);
    else problem(end, "a FIN before the end");
    return;
  }
  if (end.plan !== "client resets" && end.headerBytes > 0)
    problem(end, isReset ? `error ${-result}` : "a FIN nobody sent");
  else if (!isReset && end.headerBytes > 0) problem(end, "a FIN in place of a reset");
  close(end, "fin");
}

function onSent(end: End, result: number): void {
  if (result < 0) return; // its receive says the same
  end.sent += result;
  if (!end.isClient) {
    finishUpstream(end);
  } else if (end.sent < end.outBytes) {
    send(end, block.address + end.out + end.sent, end.outBytes - end.sent);
  } else if (end.plan === "half-close") {
    driver.shutdown(end.fd, SHUT_WR);
  } else if (end.plan === "client resets") {
    giveUps.push({ end, id: end.id, atMs: performance.now() + PATIENCE_MS });
  }
}

function onConnected(end: End, result: number): void {
  if (result < 0) {
    problem(end, `connect: error ${-result}`);
    close(end, "fin");
    return;
  }
  sendFirst(end);
  recv(end);
}

const listener = listenTcp({ address: "0.0.0.0", port: 0 }, 4_096);
const handler = {
  complete(slot: number, tag: number, result: number, bufferId: number): void {
    if (slot === ACCEPT_SLOT) {
      driver.accept(listener.number, ACCEPT_SLOT, 0);
      if (result >= 0) recv(open(result, false));
      return;
    }
    const end = ends[slot]!;
    end.outstanding -= 1;
    if (end.fd < 0) {
      if (bufferId >= 0) driver.release(bufferId);
    } else if (tag === RECV) {
      if (result > 0) onReceived(end, bufferId, result);
      else onOver(end, result);
    } else if (tag === SEND) onSent(end, result);
    else onConnected(end, result);
    if (end.fd < 0 && end.outstanding === 0) {
      ends[slot] = undefined;
      freeSlots.push(slot);
    }
  },
};

function say(fields: object): void {
  process.stdout.write(`${JSON.stringify(fields)}\n`);
}

/** Clients that gave up reset; who is still there after STUCK_MS is stuck. */
function giveUp(nowMs: number): void {
  while (giveUps.length > 0 && giveUps[0]!.atMs <= nowMs) {
    const { end, id } = giveUps.shift()!;
    if (end.id === id) close(end, "reset");
  }
}

function endStuck(nowMs: number): void {
  for (const end of ends) {
    if (end === undefined || end.fd < 0 || nowMs - end.sinceMs < STUCK_MS) continue;
    problem(end, "stuck");
    close(end, "reset");
  }
}

say({ port: localEndpoint(listener.number).port });
const [line] = (await once(createInterface({ input: process.stdin }), "line")) as [string];
driver.accept(listener.number, ACCEPT_SLOT, 0);
const begin = performance.now();
let saidMs = begin;
for (;;) {
  const nowMs = performance.now();
  const due = Math.floor(Math.min((nowMs - begin) / 1e3, seconds) * rate);
  while (counts.started + counts.skipped < due) {
    if (freeSlots.length > ENDS_MAX / 2) startClient(Number(line));
    else counts.skipped += 1;
  }
  giveUp(nowMs);
  driver.run(2, handler);
  if (nowMs - saidMs < 1_000) continue;
  saidMs = nowMs;
  endStuck(nowMs);
  const isOver = nowMs - begin > seconds * 1e3 && counts.ended === counts.started;
  say({ ...counts, plans, problems: problemCount, ...(isOver && { done: problems }) });
  if (isOver) break;
}
process.exit(0);
