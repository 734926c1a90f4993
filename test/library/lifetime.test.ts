// Goal: a program that uses the library ends as if it did not, however it ends, and leaves no half-open behind; without
// capabilities it is told so once and gets ordinary connections.
// Method: programs of their own and a listener in a namespace of our own, whose half-opens ss(8) lists.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { connector, createPool } from "../../library/index.ts";

const UNPRIVILEGED = ["setpriv", "--bounding-set", "-net_raw,-net_admin", "--"];
const END_LIMIT_MS = 10_000;
/** The kernel answers the upstream's repeated SYN-ACK in place of a program that was killed. */
const FORGOTTEN_LIMIT_MS = 2_500;

interface Context {
  server: Server;
  port: number;
}

interface Run {
  readonly child: ChildProcess;
  readonly output: () => string;
}

const halfOpens = (): number =>
  spawnSync("ss", ["-tanH", "state", "syn-recv"], { encoding: "utf8" }).stdout.split("\n").length - 1;

function start(port: number, action: string, prefix: readonly string[] = []): Run {
  const program = new URL("program.ts", import.meta.url).pathname;
  const command = [...prefix, process.execPath, "--import", "./scripts/typescript.mjs", program];
  const child = spawn(command[0]!, [...command.slice(1), String(port), action]);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk;
    });
  }
  return { child, output: () => output };
}

/** Its exit code or signal, once it has ended by itself. */
async function ending({ child, output }: Run): Promise<unknown> {
  const limit = setTimeout(() => child.kill("SIGKILL"), END_LIMIT_MS);
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  clearTimeout(limit);
  if (signal === "SIGKILL") throw new Error(`does not end: ${output()}`);
  return code ?? signal;
}

async function until(what: string, holds: () => boolean, limitMs: number): Promise<void> {
  const endsAt = performance.now() + limitMs;
  while (!holds()) {
    if (performance.now() > endsAt) throw new Error(`not ${what} within ${limitMs} ms`);
    await sleep(5);
  }
}

const lifetime = suite<Context>("library: lifetime");
lifetime.before(async (context) => {
  context.server = createServer((socket) => socket.on("error", () => {}).pipe(socket));
  context.server.listen(0, "127.0.0.1");
  await once(context.server, "listening");
  context.port = (context.server.address() as AddressInfo).port;
});
lifetime.after(({ server }) => {
  server.close();
});

for (const [action, want] of [
  ["nothing", 0],
  ["close", 0],
  ["exit", 3],
  ["throw", 1],
] as const) {
  lifetime(
    `given a program that ends by ${action}, then it ends, and no half-open is left`,
    async ({ port }) => {
      const run = start(port, action);
      assert.is(await ending(run), want, run.output());
      assert.match(run.output(), /^accelerated$/m);
      assert.is(halfOpens(), 0);
    },
  );
}

lifetime("given a program that is interrupted, then the kernel gives its half-opens up", async ({ port }) => {
  const run = start(port, "stay");
  await until("accelerated", () => run.output().includes("accelerated"), END_LIMIT_MS);
  assert.ok(halfOpens() >= 4);
  run.child.kill("SIGINT");
  assert.is(await ending(run), "SIGINT");
  await until("without half-opens", () => halfOpens() === 0, FORGOTTEN_LIMIT_MS);
});

lifetime("given no capabilities, then one warning, and ordinary connections", async ({ port }) => {
  const run = start(port, "nothing", UNPRIVILEGED);
  assert.is(await ending(run), 0, run.output());
  assert.match(run.output(), /^ordinary$/m);
  assert.is(run.output().match(/ACCEL_UNPRIVILEGED/g)?.length, 1, run.output());
});

lifetime(
  "given a pool that is closed, then its connections go on, and new ones are refused",
  async ({ port }) => {
    const pool = createPool({ host: "127.0.0.1", port, min: 2, max: 8 });
    assert.is(await pool.ready(), true);
    const socket = await pool.connect();
    await pool.close();
    await until("without half-opens", () => halfOpens() === 0, FORGOTTEN_LIMIT_MS);
    socket.write("still there");
    assert.is(String((await once(socket, "data"))[0]), "still there");
    socket.destroy();
    const refused = await pool.connect().then(
      () => "a connection",
      ({ code }) => code,
    );
    assert.is(refused, "ACCEL_CLOSED");
  },
);

lifetime("given a pool without clients, then another one with equal settings shares it", async ({ port }) => {
  const settings = { min: 3, max: 8 };
  const first = createPool({ host: "127.0.0.1", port, ...settings });
  await first.ready();
  const second = createPool({ host: "127.0.0.1", port, ...settings });
  assert.is(await second.ready(), true);
  (await second.connect()).destroy();
  assert.is(first.stats()[0]?.hits, 1);
  await first.close();
  assert.ok(halfOpens() >= settings.min, "the second one still holds it");
  await second.close();
});

lifetime("given a server that speaks first, then it is heard", async () => {
  const greeter = createServer((socket) => socket.on("error", () => {}).end("220 ready"));
  greeter.listen(0, "127.0.0.1");
  await once(greeter, "listening");
  const { port } = greeter.address() as AddressInfo;
  const pool = createPool({ host: "127.0.0.1", port, min: 2, max: 8 });
  await pool.ready();
  const startedMs = performance.now();
  const socket = await pool.connect();
  assert.is(String((await once(socket, "data"))[0]), "220 ready");
  assert.ok(performance.now() - startedMs < 500, "only the server's own repetition was heard");
  assert.is(pool.stats()[0]?.hits, 1);
  socket.destroy();
  await pool.close();
  greeter.close();
});

lifetime("given settings that make no sense, then a RangeError", () => {
  for (const settings of [{ min: -1 }, { max: 0 }, { min: 3, max: 2 }, { maxSynRate: 0.5 }, { maxAge: 10 }]) {
    assert.throws(
      () => connector(settings),
      (error: RangeError & { code: string }) => error.code === "ACCEL_SETTINGS",
    );
  }
  assert.throws(() => createPool({ host: "127.0.0.1", port: 0 }), RangeError);
});

lifetime.run();
