// Goal: a keeper starts whatever it has to tell before it has started, beside others of the same network namespace.
// Method: several keeper threads that log everything; one of them has the port that all would share a listener on.
import { pino } from "pino";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { KeeperHandle } from "../../pool/keeper-handle.ts";

const START_MS = 20_000;

const start = suite("keeper start");
start(
  "given a keeper that has the shared port, then the next one starts, and says what it lacks",
  async () => {
    const lines: { msg?: string }[] = [];
    const log = pino({ level: "debug" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
    const onCrash = (error: Error): never => {
      throw error;
    };
    const keepers: KeeperHandle[] = [];
    for (let index = 0; index < 2; index++) {
      const late = setTimeout(() => onCrash(new Error("a keeper did not start")), START_MS);
      keepers.push(await KeeperHandle.start("debug", log, onCrash));
      clearTimeout(late);
    }
    const lacks = /^no (ports that share a listener|eBPF for handshakes)/;
    assert.ok(lines.some(({ msg }) => lacks.test(msg ?? "")));
    for (const keeper of keepers) await keeper.stop();
  },
);
start.run();
