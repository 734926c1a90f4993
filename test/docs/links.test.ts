// Goal: no link of a document, and no document that a message of the program names, leads nowhere.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { anchors, documents, type Link, links, root } from "./documents.ts";

function isBroken({ path, anchor }: Link): boolean {
  if (!existsSync(join(root, path))) return true;
  return anchor !== undefined && path.endsWith(".md") && !anchors(path).has(anchor);
}

const documentLinks = suite("documents: links");
for (const from of documents()) {
  documentLinks(`given ${from}, then its links lead somewhere`, () => {
    const broken = links(from).filter(isBroken);
    assert.equal(
      broken.map(({ to }) => to),
      [],
    );
  });
}

documentLinks("given links that lead nowhere, then they are found", () => {
  const link = { from: "README.md", to: "", path: "docs/operating.md", anchor: "signals" };
  assert.not(isBroken(link));
  assert.ok(isBroken({ ...link, anchor: "no-such-heading" }));
  assert.ok(isBroken({ ...link, path: "docs/no-such.md" }));
  assert.ok(documents().flatMap(links).length > 100);
});
documentLinks.run();
