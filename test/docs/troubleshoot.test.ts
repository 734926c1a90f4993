// Goal: whoever meets a line of the log, or an event on the page, finds it in docs/operating/troubleshoot.md.
// Method: the messages are read from the program's source, the events from the words they get; the document's tables
// must have exactly these, each with its level, its cause and what to do.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { describe, EVENT_MESSAGES, type Fields } from "../../proxy/event-words.ts";
import { read, root, rows } from "./documents.ts";
import { logMessages } from "./log-messages.ts";

const { messages, unclear } = logMessages();

interface Row {
  readonly message: string;
  readonly event: string | undefined;
  readonly levels: readonly string[];
  readonly cause: string;
  readonly remedy: string;
}

const documented = rows(read("docs/operating/troubleshoot.md"), 4).map(
  ([first = "", levels = "", cause = "", remedy = ""]): Row => {
    const [, message = first, event] = /^`([^`]+)`(?:<br>\*(.+)\*)?$/.exec(first) ?? [];
    return { message, event, levels: levels.split(", "), cause, remedy };
  },
);

/** Each field is its own name, in capitals. */
const names: Fields = new Proxy({}, { get: (_, name) => String(name).toUpperCase() });

const log = suite("troubleshoot: messages");
log("every message of the log is constant", () => assert.equal(unclear, []));

log("the document has every message, once, and none that is no longer said", () => {
  const found = documented.map(({ message }) => message);
  assert.equal(found.toSorted(), [...messages.keys()].toSorted());
});

log("each has the level by which it comes, a cause and a remedy", () => {
  for (const { message, levels, cause, remedy } of documented) {
    assert.equal(levels.toSorted(), [...(messages.get(message)?.levels ?? [])].toSorted(), message);
    const isNews = levels.join() === "info";
    assert.ok(isNews || cause.length > 10, `${message}: no cause`);
    assert.ok(remedy === "–" || remedy.length > 5, `${message}: no remedy`);
  }
});

/** What no test brings about, and what it would take. */
const UNTESTED: Readonly<Record<string, string>> = {
  "session does not end": "a request that the kernel never completes",
  "start failed": "a bug",
  "no sessions came, waiting for others": "a source that breaks off in the middle of its greeting",
  "reload failed": "a bug",
  "upgrade failed": "a bug",
  "upstream addresses not applied": "a pool that cannot be started although another could",
  "a client was not accepted": "accept(2) without memory: Node hides EMFILE and ENFILE",
  "admin interface cannot accept a connection": "the same",
  "the new process did not answer at the end": "a process that dies between two messages",
  "no rehearsal of the move: its pause will be longer": "a host without a loopback interface",
  "ports can no longer share a listener: each half-open has its own": "a kernel that takes bpf(2) away",
  "SYN-ACKs or RSTs came faster than they were read": "a thread that has no processor for long",
};

log("every message is named by a test, or there is a reason", () => {
  const tests = readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts") && !path.startsWith("docs/"))
    .map((path) => read(join("test", path)))
    .join("\n");
  const missing = [...messages.keys()].filter((message) => !tests.includes(message));
  assert.equal(missing.toSorted(), Object.keys(UNTESTED).toSorted());
});

log("a document that a message names exists", () => {
  const named = [...messages.keys()].flatMap((message) => message.match(/docs\/[\w/.-]+\.md/g) ?? []);
  assert.ok(named.length > 0);
  for (const path of named) assert.ok(existsSync(join(root, path)), path);
});

log("given messages of all kinds, then the source is read right", () => {
  const sample = logMessages(`
    import type { Logger } from "../pool/logger.ts";
    export function say(log: Logger, level: "warn" | "debug", isGood: boolean, text: string): void {
      log.info({}, "plain");
      log.warn({ text }, isGood ? "either" : "or");
      log[level]({}, "by a variable");
      log.debug({}, "not for people");
      console.warn("not the log");
      log.warn({}, "made up of " + text);
    }`);
  const found = [...sample.messages.values()].map(({ message, levels }) => `${[...levels]} ${message}`);
  assert.equal(found, ["info plain", "warn either", "warn or", "warn by a variable"]);
  assert.equal(sample.unclear, ["proxy/sample.ts:9"]);
});
log.run();

const events = suite("troubleshoot: events");
events("every event with words of its own is one of the log's messages", () => {
  for (const message of EVENT_MESSAGES) assert.ok(messages.has(message), message);
});

events("the document has the words of each, and no others", () => {
  const shown = (message: string): string | undefined =>
    EVENT_MESSAGES.includes(message) ? describe(message, names) : undefined;
  for (const { message, event } of documented) assert.is(event, shown(message), message);
});
events.run();
