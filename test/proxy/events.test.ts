// Goal: people read what happened in plain words, a bounded number of it, whatever the log leaves out.
// Method: lines as pino writes them; then the log itself, with a level that is quieter than events.
import { closeSync, openSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { describe } from "../../proxy/event-words.ts";
import { RecentEvents } from "../../proxy/events.ts";
import { createLog, loggedLevel } from "../../proxy/log.ts";

const words = suite("events: words");
const place = { component: "pool", upstream: "origin", server: "10.0.0.7:80" };
for (const [message, fields, want] of [
  ["half-opens ready", { ...place, halfOpen: 1 }, "origin at 10.0.0.7:80 is ready: 1 half-open connection"],
  ["draining", { active: 2 }, "Draining: 2 sessions left"],
  ["something new", { component: "x", a: 1, b: "c" }, "Something new (a 1, b c)"],
  ["something new", { err: { message: "no luck" } }, "Something new (no luck)"],
  ["toString", {}, "ToString"],
  ["bad\u001b[2J\nline", {}, "Bad [2J line"],
] as const) {
  words(`given ${JSON.stringify(message)}, then ${want}`, () => assert.is(describe(message, fields), want));
}
words.run();

const events = suite("events");
events("given many lines, then the newest 50, and a line that repeats itself once", () => {
  const recent = new RecentEvents();
  for (let n = 0; n < 60; n++) recent.write(JSON.stringify({ level: 30, time: n, msg: `m${n}` }));
  for (let n = 60; n < 63; n++) recent.write(JSON.stringify({ level: 40, time: n, msg: "again" }));
  assert.is(recent.newestFirst.length, 50);
  assert.equal(recent.newestFirst[0], { timeMs: 62, level: "warning", text: "Again", times: 3 });
  assert.is(recent.newestFirst[1]?.text, "M59");
});

for (const level of ["silent", "error", "info", "debug"] as const) {
  events(`given the level ${level}, then events from info up all the same`, () => {
    const recent = new RecentEvents();
    const descriptor = openSync("/dev/null", "w");
    const log = createLog({ level, events: recent, readable: false, descriptor });
    log.debug("hidden");
    log.child({ component: "pool" }).info(place, "accelerating again after a pause");
    log.error({ err: new Error("no luck") }, "drain failed");
    closeSync(descriptor);
    assert.equal(
      recent.newestFirst.map((event) => `${event.level} ${event.text}`),
      ["error Drain failed (no luck)", "info origin at 10.0.0.7:80 is tried again after its pause"],
    );
    assert.is(loggedLevel(level), level === "debug" ? "debug" : "info");
  });
}
events.run();
