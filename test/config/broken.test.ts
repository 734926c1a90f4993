// Every file in broken/ must be refused with exactly the lines of the .expected file beside it: the place, the
// problem and the remedy are read by people and by editors, so a change of any of them has to be seen in a diff.
import { readdirSync, readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadConfig } from "../../config/load.ts";
import { formatProblem } from "../../config/problems.ts";

const folder = new URL("broken/", import.meta.url);
const files = readdirSync(folder).filter((file) => file.endsWith(".yaml"));

const broken = suite("config: broken files");

for (const file of files) {
  const expected = readFileSync(new URL(file.replace(/yaml$/, "expected"), folder), "utf8");
  broken(`given ${file}, then its problems with places and remedies`, async () => {
    const result = await loadConfig(new URL(file, folder).pathname);
    assert.is(result.ok, false);
    const lines = result.ok ? [] : result.problems.map((p) => `${formatProblem({ ...p, file })}\n`);
    assert.fixture(lines.join(""), expected);
    for (const line of lines) assert.match(line, /^[a-z0-9-]+\.yaml:[1-9]\d*:[1-9]\d*: .+ \(.+\)\n$/);
  });
}

broken(
  "given the folder, then it has a file for every kind of mistake and no expectation without a file",
  () => {
    assert.ok(files.length >= 40, `${files.length} files`);
    const expectations = readdirSync(folder).filter((file) => file.endsWith(".expected"));
    assert.equal(expectations.map((file) => file.replace(/expected$/, "yaml")).sort(), files.toSorted());
  },
);

broken.run();
