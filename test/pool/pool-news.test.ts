// Goal: a line of the log for each change of a pool's state, seldom enough to read when an upstream flutters, and the
// last one said is true. Method: the lines that a recording logger gets, on a clock of the test's own.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PAUSE_NEWS_INTERVAL } from "../../pool/limits.ts";
import { PoolNews } from "../../pool/pool-news.ts";
import { Seldom } from "../../pool/seldom.ts";

const seldom = suite("seldom");
seldom(
  "given something that repeats itself, then once in an interval, with how often it was not said",
  () => {
    const warnings = new Seldom(100);
    const said: (number | undefined)[] = [];
    for (let ms = 0; ms <= 200; ms += 25) said.push(warnings.due(ms));
    assert.equal(
      said.flatMap((unsaid, at) => (unsaid === undefined ? [] : [[25 * at, unsaid]])),
      [
        [0, 0],
        [100, 3],
        [200, 3],
      ],
    );
  },
);
seldom.run();

function record(): { readonly lines: string[]; readonly news: PoolNews } {
  const lines: string[] = [];
  const write = (level: string) => (fields: object, message: string) => {
    lines.push(`${level} ${message} ${Object.values(fields).join(" ")}`);
  };
  const log = { debug: write("debug"), info: write("info"), warn: write("warn") };
  const server = { address: "10.0.0.7", port: 80 };
  const spec = { id: 1, upstream: "origin", server, min: 2, max: 8, maxSynRate: 10, maxAgeMs: 1 };
  return { lines, news: new PoolNews(spec, log) };
}

const poolNews = suite("pool news");
poolNews("given what is told again and again, then each change is said once", () => {
  const { lines, news } = record();
  for (let ms = 0; ms < 3; ms++) news.ready(2);
  for (let ms = 0; ms < 3; ms++) news.paused("upstream refuses connections", ms);
  for (let ms = 0; ms < 3; ms++) news.ready(4);
  assert.equal(lines, [
    "info half-opens ready origin 10.0.0.7:80 2",
    "warn half-opens paused origin 10.0.0.7:80 upstream refuses connections",
    "info half-opens ready origin 10.0.0.7:80 4",
  ]);
});

poolNews("given an upstream that flutters and then stays away, then few lines, and the last says so", () => {
  const { lines, news } = record();
  const flutters = 2 * PAUSE_NEWS_INTERVAL + 3_000;
  for (let ms = 0; ms < flutters; ms += 1_000) {
    news.ready(2);
    news.paused("upstream refuses connections", ms + 500);
  }
  for (let ms = flutters; ms < 2 * flutters; ms += 1_000) news.paused("upstream refuses connections", ms);
  assert.is(lines.length, 8);
  assert.match(lines.at(-1)!, /^warn half-opens paused .* upstream refuses connections [1-9]/);
});

poolNews("given first data that vanish, then the pause, its end and its half-opens are said", () => {
  const { lines, news } = record();
  news.ready(2);
  news.blackholed(15_000);
  news.resumed();
  news.ready(2);
  news.lowered(1);
  news.raised();
  for (const found of [true, false]) news.cookies(found);
  assert.equal(
    lines.map((line) => line.replace(/ origin.*/, "")),
    [
      "info half-opens ready",
      "warn first data on half-opens vanishes, connecting in the ordinary way",
      "info accelerating again after a pause",
      "info half-opens ready",
      "warn upstream drops SYNs, holding fewer half-opens",
      "info holding as many half-opens as configured again",
      "info upstream answers with SYN cookies",
      "info upstream no longer answers with SYN cookies",
    ],
  );
});
poolNews.run();
