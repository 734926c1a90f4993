// Goal: what is written is read again, and nothing else: any change of a file gives one clear error, or the same.
// Method: any sessions by fast-check; every truncation; mutations (10⁵ of them in `npm run soak -- images`); each rule
// broken once in an otherwise good record.
import { decode, encode } from "cborg";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decodeImages } from "../../../proxy/checkpoint/images/image-format.ts";
import { AccelproxyError } from "../../../proxy/errors.ts";
import { FILE, fileOf, framesOf, HEADER, mutateImages, write } from "./image-mutations.ts";
import { anySession, sampleSession } from "./session-images.ts";

const MUTATIONS = 2_000;
const LENGTHS_STEP = 3;

/** The error of a file that must be refused. */
function refusal(bytes: Uint8Array): AccelproxyError {
  try {
    decodeImages(bytes, FILE);
  } catch (error) {
    assert.instance(error, AccelproxyError);
    return error as AccelproxyError;
  }
  return assert.unreachable("the file was read") as never;
}

const format = suite("image format");

format("given any sessions, then they are read as they were written", () => {
  fc.assert(
    fc.property(fc.array(anySession, { maxLength: 4 }), (sessions) => {
      // A clone has ordinary prototypes, which generated objects have not.
      assert.equal(decodeImages(write(sessions), FILE), structuredClone({ header: HEADER, sessions }));
    }),
    { numRuns: 40 },
  );
});

format("given the frames taken apart and put together by this test, then the same file", () => {
  const bytes = write([sampleSession(1), sampleSession(2, 3)]);
  assert.ok(fileOf(framesOf(bytes)).equals(bytes));
});

format("given a file cut off anywhere, then it says so", () => {
  const bytes = write([sampleSession(1), sampleSession(2, 9)]);
  for (let length = 0; length < bytes.length; length += LENGTHS_STEP) {
    const { code, message } = refusal(bytes.subarray(0, length));
    assert.is(code, "ACCEL_IMAGE_DAMAGED", `at ${length}`);
    assert.match(message, /^dir\/sessions\.images: (record \d is cut off|the first line is not) .*\(copy/);
  }
});

format(`given ${MUTATIONS} changed files, then each is the same, or refused, or good in itself`, () => {
  const { refused, good } = mutateImages(MUTATIONS, 20_261_121);
  assert.ok(refused > MUTATIONS * 0.6 && good > 0, `${refused} refused, ${good} good`);
});

format.run();

const whole = suite("image format: whole files");

const [HEADER_FRAME, ONE, TWO, END] = framesOf(write([sampleSession(1), sampleSession(2)]));
for (const [given, bytes, wanted] of [
  ["nothing", Buffer.alloc(0), /DAMAGED .*the first line/],
  ["another file", Buffer.from("#!/bin/sh\n"), /DAMAGED .*the first line/],
  ["a later version", Buffer.from("accelproxy images 2\nwhatever"), /VERSION .*version 2.*reads 1/],
  ["a session left out", fileOf([HEADER_FRAME!, ONE!, END!]), /DAMAGED .*1 sessions where it tells of 2/],
  ["no header", fileOf([ONE!, TWO!, END!]), /DAMAGED .*record 0 is none that can be/],
  [
    "a frame of an unknown kind",
    fileOf([HEADER_FRAME!, { ...ONE!, kind: "X" }, END!]),
    /DAMAGED .*record 1 is none/,
  ],
  ["something behind the end", Buffer.concat([write([]), Buffer.of(0)]), /DAMAGED .*something follows/],
  [
    "a session twice",
    fileOf([HEADER_FRAME!, ONE!, ONE!, END!]),
    /INVALID .*record 2: field client: .*already/,
  ],
  [
    "what is no CBOR",
    fileOf([HEADER_FRAME!, { kind: "S", payload: Buffer.of(0xff) }, END!]),
    /DAMAGED .*record 1 is no CBOR/,
  ],
  [
    "lists within lists",
    fileOf([HEADER_FRAME!, { kind: "S", payload: Buffer.alloc(1_000_000, 0x81) }, END!]),
    /DAMAGED .*record 1 is no CBOR/,
  ],
  [
    "a length beyond everything",
    fileOf([HEADER_FRAME!, { kind: "S", payload: Buffer.from("9bffffffffffffffff", "hex") }, END!]),
    /DAMAGED .*record 1 is no CBOR/,
  ],
] as const) {
  whole(`given ${given}, then ${wanted.source.slice(0, 12)}`, () => {
    const { code, message } = refusal(bytes);
    assert.match(`${code} ${message}`, wanted);
  });
}

whole.run();

const fields = suite("image format: fields");

type Tree = { [key: string]: Tree | Tree[] | unknown };

/** The sample with one value changed, given by its path, in a file whose checksums are right. */
function withField(path: string, value: unknown): Buffer {
  const session = decode(ONE!.payload) as Tree;
  const keys = path.split(".");
  const last = keys.pop()!;
  const parent = keys.reduce((tree, key) => tree[key] as Tree, session);
  if (value === undefined) delete parent[last];
  else parent[last] = value;
  return fileOf([
    HEADER_FRAME!,
    { kind: "S", payload: encode(session) },
    { kind: "E", payload: encode({ sessions: 1 }) },
  ]);
}

const option = (name: string, value: unknown): Tree => ({ name, value });

fields("given the sample as it is, then it is good", () => {
  assert.is(decodeImages(withField("record.listener", "api"), FILE).sessions.length, 1);
});

for (const [path, value, field = path] of [
  ["client.local.port", 0],
  ["client.local.port", 65_536],
  ["client.local.port", 80.5],
  ["client.local.port", "80"],
  ["client.local.address", new Uint8Array(5)],
  ["client.local.address", "10.0.0.1"],
  ["client.remote.address", new Uint8Array(16)],
  ["upstream.snd_una", -1],
  ["upstream.snd_una", 2 ** 32],
  ["upstream.rcv_nxt", undefined],
  ["upstream.mss_clamp", 0],
  ["upstream.advmss", 65_536],
  ["upstream.wscale.snd_wscale", 15],
  ["upstream.wscale", false],
  ["upstream.sackPermitted", 1],
  ["upstream.tsval", 1.5],
  ["upstream.window.snd_wnd", 65_536],
  ["upstream.window.max_window", (65_535 << 14) + 1],
  ["upstream.window.rcv_wnd", -1],
  ["upstream.options", [{ level: 1, name: 1, value: 1 }]],
  ["upstream.live", null],
  ["upstream.live.state", "LISTEN"],
  ["upstream.live.state", "SYN_SENT", "upstream.live.received"],
  ["upstream.live.received", "text"],
  ["upstream.live.finSent", true],
  ["upstream.live.mss", 0],
  ["upstream.live.options", [option("SO_SECRET", 1)], "upstream.live.options.0.name"],
  ["upstream.live.options", [option("TCP_NODELAY", "on")], "upstream.live.options.0.value"],
  ["upstream.live.options", [option("TCP_NODELAY", 2 ** 31)], "upstream.live.options.0.value"],
  ["upstream.live.options", [option("SO_LINGER", -2)], "upstream.live.options.0.value"],
  ["upstream.live.options", [option("SO_SNDBUF", -1)], "upstream.live.options.0.value"],
  ["upstream.live.options", [option("TCP_CONGESTION", "../../evil")], "upstream.live.options.0.value"],
  ["upstream.live.options", [option("TCP_CONGESTION", "x".repeat(16))], "upstream.live.options.0.value"],
  ["upstream.live.options", [option("TCP_NODELAY", 1), option("SO_MARK", 1)]],
  ["upstream.live.options", [option("SO_MARK", 1), option("SO_MARK", 1)]],
  ["upstream", undefined],
  ["upstream", null],
  ["record.state", "waiting", "upstream"],
  ["record.state", "closed"],
  ["record.listener", ""],
  ["record.listener", "api\u001b[2J"],
  ["record.listener", "x".repeat(301)],
  ["record.path", "elsewhere"],
  ["record.lease", { entry: -1, port: 1, verdict: "none" }, "record.lease.entry"],
  ["record.proof.bytesSent", 0.5],
  ["record.up", [1, 2]],
  ["record.clientEnded", "yes"],
  ["record.idleMs", "soon"],
] as const) {
  fields(`given ${path} = ${JSON.stringify(value)?.slice(0, 60)}, then field ${field} is named`, () => {
    const bad =
      typeof value === "string" && value === "SYN_SENT" ? withReceived(value) : withField(path, value);
    const { code, message } = refusal(bad);
    assert.is(code, "ACCEL_IMAGE_INVALID");
    assert.ok(message.startsWith(`${FILE}: record 1: field ${field}: `), message);
  });
}

/** Bytes received in a state that cannot have any. */
function withReceived(state: string): Buffer {
  const live = { ...(decode(ONE!.payload) as { upstream: { live: Tree } }).upstream.live };
  return withField("upstream.live", { ...live, state, received: Buffer.of(1) });
}

for (const path of ["", "client.", "upstream.live.", "record.proof."]) {
  fields(`given a field of no meaning, ${path}more, then it is refused`, () => {
    assert.match(refusal(withField(`${path}more`, 1)).message, /record 1:.* Unrecognized key: "more"/);
  });
}

fields("given something to write that could not be read, then it is refused before it is written", () => {
  const good = sampleSession(1);
  const bad = { ...good, record: { ...good.record, listener: "" } };
  assert.throws(() => write([good, bad]), /record 2: field record\.listener: .*report it/);
});

fields.run();
