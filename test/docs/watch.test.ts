// Goal: who loads the alerts or the dashboard finds each alert explained, and a dashboard that Grafana can import.
// What they ask for, and what it says, is test/e2e/alerts.test.ts's business.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parse } from "yaml";
import { read, rows } from "./documents.ts";

interface Rule {
  readonly alert: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string };
}

const { groups } = parse(read("docs/operating/alerts.yml")) as { groups: { rules: Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);

const watch = suite("watch");
watch("the document has every alert with its severity and what to do", () => {
  const documented = rows(read("docs/operating/watch.md"), 3).filter(([name]) =>
    name?.startsWith("`Accelproxy"),
  );
  assert.equal(
    documented.map(([name, severity]) => `${name} ${severity}`),
    rules.map(({ alert, labels }) => `\`${alert}\` ${labels.severity}`),
  );
  for (const [name, , remedy = ""] of documented) assert.ok(remedy.length > 10, name);
  for (const { alert, annotations } of rules) assert.ok(annotations.summary.length > 10, alert);
});

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly datasource: { readonly uid: string };
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets: readonly { readonly refId: string; readonly datasource: { readonly uid: string } }[];
}

watch("the dashboard asks for its data source, and its panels for no other", () => {
  const dashboard = JSON.parse(read("docs/operating/dashboard.json")) as {
    __inputs: { name: string; type: string }[];
    __requires: { id: string }[];
    id: null;
    panels: Panel[];
  };
  const { panels } = dashboard;
  assert.equal(
    dashboard.__inputs.map(({ name, type }) => `${name} ${type}`),
    ["DS_PROMETHEUS datasource"],
  );
  assert.is(dashboard.id, null);
  const asked = panels.flatMap(({ datasource, targets }) => [
    datasource,
    ...targets.map((one) => one.datasource),
  ]);
  assert.equal([...new Set(asked.map(({ uid }) => uid))], [`\${DS_PROMETHEUS}`]);
  const required = dashboard.__requires.map(({ id }) => id);
  for (const { type } of panels) assert.ok(required.includes(type), type);
  assert.is(new Set(panels.map(({ id }) => id)).size, panels.length);
});

watch("the dashboard's panels lie side by side", () => {
  const { panels } = JSON.parse(read("docs/operating/dashboard.json")) as { panels: Panel[] };
  const taken = new Set<string>();
  for (const { gridPos } of panels) {
    assert.ok(gridPos.x + gridPos.w <= 24);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.not(taken.has(`${x} ${y}`), `two panels at ${x} ${y}`);
        taken.add(`${x} ${y}`);
      }
    }
  }
});
watch.run();
