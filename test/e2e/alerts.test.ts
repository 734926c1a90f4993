// alone
// deadline: 90s
// Goal: each alert of docs/operating/alerts.yml fires when a proxy is in its state, and none does while all is well;
// every panel of the dashboard shows something.
// Method: one proxy with an upstream or listener in each of the states, another with ordinary traffic. Each is scraped
// before and after, and promtool judges what would come of it if they went on like that.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parse } from "yaml";
import { read, rows } from "../docs/documents.ts";
import { sleep } from "./lines.ts";
import { Peer, type PeerServer } from "./peer.ts";
import { ALERTS, continued, evaluate, FIRING, intervalOf, Scrape } from "./prometheus.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 5;
const COUNTING = { behaviour: "count", act: "answer" } as const;
const FORGOTTEN = 24;
/** Found by a half-open that is left alone for some seconds; a try may be spoilt by the minute's end. */
const COOKIES_LIMIT_MS = 30_000;

interface Context {
  world: World;
  client: Peer;
  origin: Peer;
  next: number;
}

interface Part {
  readonly server: string;
  readonly listener?: string;
  readonly upstream?: string;
}

/** A listener and an upstream for each part, with more settings. */
function start(world: World, parts: Readonly<Record<string, Part>>): Promise<ProxyProcess> {
  const names = Object.entries(parts);
  return world.proxy(
    [
      "listeners:",
      ...names.map(
        ([name, { listener = "" }]) =>
          `  - { name: ${name}, bind: "127.0.0.1:0", upstream: ${name}${listener} }`,
      ),
      "upstreams:",
      ...names.map(
        ([name, { server, upstream = "" }]) => `  ${name}: { servers: [{ address: ${server} }]${upstream} }`,
      ),
      "workers: 2",
      "drainTimeout: 1s",
    ].join("\n"),
  );
}

/** Requests through a listener, so many at a time. */
function ask(context: Context, port: number, count: number, concurrency = 1): Promise<unknown> {
  const first = context.next;
  context.next += count;
  return context.client.requests({ host: "127.0.0.1", port, first, count, concurrency, limitMs: 5_000 });
}

const scrape = async (proxy: ProxyProcess): Promise<Scrape> => new Scrape(await proxy.metrics());
const gauge = async (proxy: ProxyProcess, name: string, labels: string): Promise<number> =>
  (await scrape(proxy)).sum(new RegExp(`^accelproxy_${name}\\{.*${labels}`));

const alerts = suite<Context>("alerts");
alerts.before(async (context) => {
  const rtt = { rttMs: RTT_MS };
  context.world = await World.create({
    hosts: ["near", "far", "side"],
    links: [
      { between: ["near", "far"], ...rtt },
      { between: ["near", "side"], ...rtt },
    ],
  });
  const { world } = context;
  world.far.sysctl({ "net.ipv4.tcp_syncookies": 0 });
  world.lab.host("side").sysctl({ "net.ipv4.tcp_syncookies": 2 });
  [context.client, context.origin] = await Promise.all([Peer.start(world, "near"), Peer.start(world, "far")]);
  context.next = 1;
});
alerts.after(async ({ world }) => {
  await world?.close();
});

alerts("given every trouble at once, then each alert fires for what is in trouble", async (context) => {
  const { world, client, origin } = context;
  const at = ({ port }: PeerServer, host = "10.77.0.2") => `"${host}:${port}"`;
  const counting = at(await origin.listen(COUNTING));
  const echo = at(await origin.listen({ behaviour: "echo" }));
  const forgetful = await origin.listen(COUNTING);
  const side = await (await Peer.start(world, "side")).listen(COUNTING);
  const proxy = await start(world, {
    good: { server: counting },
    down: { server: `"10.77.0.2:9"`, upstream: ", connectTimeout: 1s" },
    full: { server: echo, listener: ", maxConnections: 2" },
    line: {
      server: `${echo}, maxConnections: 1`,
      upstream: ", maxQueue: 1, connectTimeout: 1m",
    },
    small: { server: counting, upstream: ", pool: { min: 1, max: 1 }" },
    forgets: {
      server: at(forgetful),
      listener: ", takeAfter: 1s",
      upstream: `, pool: { min: ${FORGOTTEN}, max: 48, maxSynRate: 2000 }`,
    },
    drops: {
      server: at(await origin.listen(COUNTING, 0, "0.0.0.0", 8)),
      upstream: ", pool: { min: 32, max: 64, maxSynRate: 2000 }",
    },
    cookies: { server: at(side, "10.77.1.2") },
    rate: { server: echo, upstream: ", pool: { min: 16, max: 16, maxSynRate: 5 }" },
  });
  await proxy.until(
    "the pool is full",
    async () => (await gauge(proxy, "half_open", "forgets")) >= FORGOTTEN,
  );
  const before = await scrape(proxy);

  await Promise.all([
    ask(context, proxy.port("good"), 50),
    ask(context, proxy.port("down"), 10),
    ask(context, proxy.port("small"), 40, 20),
    ask(context, proxy.port("cookies"), 8),
    (async () => {
      await forgetful.close();
      await origin.listen(COUNTING, forgetful.port);
      await ask(context, proxy.port("forgets"), 20, 20);
    })(),
    (async () => {
      for (const name of ["full", "full", "line", "line", "line"]) {
        await client.connect(proxy.port(name), "127.0.0.1", { text: "hold" });
        await sleep(20);
      }
    })(),
    (async () => {
      await writeFile(join(world.folder, `proxy${world.count}.yaml`), "listeners: none\n");
      process.kill(proxy.pid, "SIGHUP");
      await proxy.until(
        "refused",
        () => proxy.said("configuration not reloaded, the old one stays").length > 0,
      );
    })(),
    proxy.until("SYNs are dropped", async () => (await gauge(proxy, "half_open_ceiling", "drops")) < 64),
    proxy.until(
      "cookies are found",
      async () => (await gauge(proxy, "half_open_cookies", "cookies")) === 1,
      COOKIES_LIMIT_MS,
    ),
  ]);
  const openFiles = await openFilesOf(proxy);
  await world.near.run("prlimit", [`--pid=${proxy.pid}`, `--nofile=${openFiles + 4}:`]);
  const after = await scrape(proxy);
  const avoided = proxy.said("server avoided: connects fail").map(({ server }) => server);
  assert.ok(avoided.length > 0 && avoided.every((server) => server === "10.77.0.2:9"), avoided.join());
  await proxy.stop("SIGKILL");

  const fires = (alert: string, labels = ""): string => `{alertname="Accelproxy${alert}"${labels}}`;
  const upstream = (name: string): string => `, upstream="${name}"`;
  const both = (name: string): string => `, listener="${name}", upstream="${name}"`;
  const expected = [
    fires("UpstreamDown", upstream("down")),
    fires("ServerDown", upstream("down")),
    fires("SessionsFail", both("down")),
    fires("PoolPaused", upstream("down")),
    fires("ListenerFull", `, listener="full"`),
    fires("ClientsQueue", upstream("line")),
    fires("SessionsFail", both("line")), // the one that was refused
    fires("ClientsRefused", upstream("line")),
    fires("FewDescriptors"),
    fires("NotAccelerated", both("small")),
    fires("HalfOpensForgotten", both("forgets")),
    fires("UpstreamDropsSyns", upstream("drops")),
    fires("SynCookies", upstream("cookies")),
    fires("SynRateAtLimit", upstream("rate")),
    fires("ReloadRefused"),
    fires("ErrorsLogged"),
  ];
  const series = continued(before, after, "near");
  assert.is(evaluate(series, intervalOf(before, after), [{ expr: FIRING, is: expected }]), "");

  const { groups } = parse(read(ALERTS)) as { groups: { rules: { alert: string }[] }[] };
  const all = groups.flatMap(({ rules }) => rules.map(({ alert }) => alert));
  const fired = new Set(expected.map((labels) => /"(.*?)"/.exec(labels)![1]));
  assert.equal(
    all.filter((alert) => !fired.has(alert)),
    ["AccelproxyDown"],
  );
});

alerts("given ordinary traffic, then no alert fires, and every panel shows something", async (context) => {
  const { world, origin } = context;
  const { port } = await origin.listen(COUNTING);
  const proxy = await start(world, { calm: { server: `"10.77.0.2:${port}"` } });
  await proxy.ready();
  const before = await scrape(proxy);
  await ask(context, proxy.port("calm"), 60);
  const after = await scrape(proxy);

  const documented = rows(read("docs/operating/watch.md"), 4)
    .filter(([name]) => name?.startsWith("`accelproxy_"))
    .map(([name, type]) => `${name!.slice(1, -1)} ${type}`);
  assert.equal(documented.toSorted(), after.families.toSorted());

  const panels = dashboardQueries().map((expr) => ({ expr: `group(${expr})`, is: ["{}"] }));
  const calm = [...continued(before, after, "near"), { series: up("near"), values: "1+0x9999" }];
  const questions = [{ expr: FIRING, is: [] }, ...panels];
  assert.is(evaluate(calm, intervalOf(before, after), questions), "");

  await proxy.stop();
  const isUp = await proxy.metrics().then(
    () => 1,
    () => 0,
  );
  const gone = [{ series: up("near"), values: `${isUp}+0x9999` }];
  assert.is(evaluate(gone, 15_000, [{ expr: FIRING, is: [`{alertname="AccelproxyDown"}`] }]), "");
});
alerts.run();

async function openFilesOf(proxy: ProxyProcess): Promise<number> {
  return (await scrape(proxy)).samples.get("accelproxy_process_open_fds")!;
}

/** What Prometheus writes of a scrape itself. */
function up(instance: string): string {
  return `up{instance="${instance}", job="accelproxy"}`;
}

/** With Grafana's variables as for all instances and a range of half an hour. */
function dashboardQueries(): string[] {
  const { panels, annotations } = JSON.parse(read("docs/operating/dashboard.json")) as {
    panels: { targets: { expr: string }[] }[];
    annotations: { list: { expr: string }[] };
  };
  const queries = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  assert.ok(queries.length > 20);
  return [...queries, ...annotations.list.map(({ expr }) => expr.replace(/ > 0$/, ""))].map((expr) =>
    expr.replaceAll("$instance", ".*").replaceAll("$__rate_interval", "5m").replaceAll("$__range", "30m"),
  );
}
