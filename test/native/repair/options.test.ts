// Goal: the documentation names exactly the socket options that are taken along, with their moments.
// Method: the rows of docs/socket-options.md against those of the code.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { OPTION_ROWS, type OptionMoment } from "../../../native/repair/options.ts";

const MOMENTS: Readonly<Record<OptionMoment, RegExp>> = {
  connect: /^before connect/,
  queues: /^after the/,
  window: /^after TCP_REPAIR_WINDOW/,
  repair: /^when repair mode has ended/,
};

const text = readFileSync(new URL("../../../docs/socket-options.md", import.meta.url), "utf8");
const documented = new Map(
  [...text.matchAll(/^\| (\w+) \| yes[^|]*\| ([^|]*) \|$/gm)].map(([, name, restored]) => [name!, restored!]),
);

const options = suite("repair: socket options");

options("given the table of the documentation, then it has the rows of the code, in their order", () => {
  assert.equal(
    [...documented.keys()],
    OPTION_ROWS.map(({ name }) => name),
  );
});

for (const { name, moment } of OPTION_ROWS) {
  options(`${name}: the documentation says when it is set`, () => {
    assert.match(documented.get(name) ?? "", MOMENTS[moment]);
  });
}

options.run();
