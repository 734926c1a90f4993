import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { RecentEvents } from "../../proxy/events.ts";
import { createLog, formatLine } from "../../proxy/log.ts";

/**
 * Goal: the same log is JSON for programs and lines for people, and neither a peer's bytes nor a full disk do harm.
 * Method: the formatter line by line; the logger itself on a file, and on /dev/full, where every write fails.
 */

const format = suite("log: readable lines");
const time = new Date(2026, 0, 2, 3, 4, 5, 67).getTime();
const line = (fields: object): string => formatLine(JSON.stringify({ level: 30, time, ...fields }));
for (const [given, fields, want] of [
  ["a message", { msg: "started" }, "03:04:05.067 INFO  started\n"],
  [
    "a component and fields",
    { level: 40, component: "pool", msg: "paused", server: "10.0.0.7:80", count: 3, ok: true },
    "03:04:05.067 WARN  pool: paused server=10.0.0.7:80 count=3 ok=true\n",
  ],
  ["text with spaces", { msg: "m", reason: "not so good" }, '03:04:05.067 INFO  m reason="not so good"\n'],
  ["empty text", { msg: "m", reason: "" }, '03:04:05.067 INFO  m reason=""\n'],
  ["a list", { msg: "m", list: ["a", "b c"] }, "03:04:05.067 INFO  m list=[ 'a', 'b c' ]\n"],
  ["no message", { n: null }, "03:04:05.067 INFO  n=null\n"],
  ["a level by name", { level: "error", msg: "m" }, "03:04:05.067 ERROR m\n"],
  ["an unknown level", { level: 35, msg: "m" }, "03:04:05.067 35    m\n"],
  ["a strange time", { time: "then", msg: "m" }, "--:--:--.--- INFO  m\n"],
  [
    "an error",
    {
      level: 50,
      msg: "failed",
      err: { type: "Error", message: "no luck", code: "EIO", stack: "Error: no luck\n  at x" },
    },
    '03:04:05.067 ERROR failed err="EIO no luck"\n    Error: no luck\n      at x\n',
  ],
  ["an error that is text", { msg: "m", err: "oops" }, "03:04:05.067 INFO  m err=oops\n"],
  [
    "control characters",
    { msg: "a\u001b[2Jb\nc", "k\u0007": "\u001b]0;x\u0007" },
    '03:04:05.067 INFO  a [2Jb c k =" ]0;x "\n',
  ],
] as const) {
  format(`given ${given}, then one readable line`, () => assert.is(line(fields), want));
}
for (const text of ["no json\n", "[1]\n", '"x"\n', "null\n", "\n"]) {
  format(`given ${JSON.stringify(text)}, then it stays as it is`, () => assert.is(formatLine(text), text));
}
format.run();

const logger = suite("log: logger");
logger.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "accelproxy-log-"));
});
logger.after.each((context) => rmSync(context.folder, { recursive: true }));

const events = new RecentEvents();

function write(folder: string, readable: boolean): string {
  const path = join(folder, "log");
  const descriptor = openSync(path, "w");
  const log = createLog({ level: "info", events, readable, descriptor });
  log.child({ component: "pool" }).info({ n: 1 }, "hello");
  log.debug("not written");
  closeSync(descriptor);
  return readFileSync(path, "utf8");
}

logger("given no terminal, then pino's JSON, one line each, written at once", ({ folder }) => {
  const text = write(folder, false);
  const { time: when, ...record } = JSON.parse(text);
  assert.equal(record, { level: 30, component: "pool", n: 1, msg: "hello" });
  assert.type(when, "number");
  assert.is(text.split("\n").length, 2);
});

logger("given a terminal, then readable lines", ({ folder }) => {
  assert.match(write(folder, true), /^\d\d:\d\d:\d\d\.\d{3} INFO {2}pool: hello n=1\n$/);
});

logger("given a full disk, then logging goes on without an error", async () => {
  const descriptor = openSync("/dev/full", "w");
  const log = createLog({ level: "info", events, readable: false, descriptor });
  for (let n = 0; n < 10; n++) log.info({ n }, "lost");
  await new Promise((resolve) => setTimeout(resolve, 20));
  closeSync(descriptor);
});
logger.run();
