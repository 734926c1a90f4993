// Goal: undici and Node's agents give the same results over our connections as over their own.
// Method: one table of cases, run with the default connector and with ours, against real servers in a namespace of our
// own. For ours half-opens are ready, and a case that none of them served fails.
import type http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Connector, connector } from "../../library/index.ts";
import { type Reservation, reservePort } from "../../native/net/tcp-socket.ts";
import { makeCertificate, Origin } from "./origin.ts";
import { CASES, type Place, type Way } from "./parity-cases.ts";

const READY_LIMIT_MS = 5_000;
const SETTINGS = { min: 8, max: 64, maxSynRate: 5_000 };

interface Context {
  origin: Origin;
  silent: Reservation;
  place: Place;
  seed: Connector;
}

const parity = suite<Context>("library: parity");
parity.before(async (context) => {
  const certificate = makeCertificate();
  context.origin = await Origin.start("127.0.0.1", certificate);
  context.silent = reservePort(false); // listens, and drops every SYN
  const { plain, secure } = context.origin.ports;
  context.place = {
    plain: `http://127.0.0.1:${plain}`,
    secure: `https://127.0.0.1:${secure}`,
    ca: certificate.cert,
    refusing: "http://127.0.0.1:9",
    silent: `http://127.0.0.1:${context.silent.port}`,
    seen: () => context.origin.seen,
  };
  context.seed = await warmUp(context.place);
});
parity.after(async ({ origin, silent, seed }) => {
  await seed.close();
  origin.close();
  silent.fd.close();
});

const ordinary: Way = { connect: (options = {}) => options, agent: (agent) => agent };

/** Ours, and the connectors made on the way. */
class Accelerated implements Way {
  readonly connectors: Connector[] = [];
  readonly #seed: Connector;

  constructor(seed: Connector) {
    this.#seed = seed;
  }

  connect(options: Parameters<Way["connect"]>[0] = {}): Connector {
    const connect = connector({ ...SETTINGS, ...options });
    this.connectors.push(connect);
    return connect;
  }

  agent<T extends http.Agent>(agent: T): T {
    agent.createConnection = this.connect();
    return agent;
  }

  get hits(): number {
    return this.#seed.stats().reduce((sum, { hits }) => sum + hits, 0);
  }
}

/** A connector with the settings of all others, so that they share its pools, whose half-opens are ready. */
async function warmUp(place: Place): Promise<Connector> {
  const seed = connector(SETTINGS);
  for (const origin of [place.plain, place.secure]) {
    const { hostname, port } = new URL(origin);
    await new Promise<void>((resolve, reject) => {
      seed({ hostname, port, protocol: "http:" }, (error, socket) => {
        if (error !== null) reject(error);
        else {
          socket.destroy();
          resolve();
        }
      });
    });
  }
  await ready(seed);
  return seed;
}

async function ready(seed: Connector): Promise<void> {
  const endsAt = performance.now() + READY_LIMIT_MS;
  while (seed.stats().length < 2 || seed.stats().some(({ ready: count }) => count < SETTINGS.min)) {
    if (performance.now() > endsAt) throw new Error(`not ready: ${JSON.stringify(seed.stats())}`);
    await sleep(5);
  }
}

for (const { name, want, isNeverHit = false, run } of CASES) {
  parity(`given ${name}, then both ways have the same result`, async ({ place, seed }) => {
    assert.equal(await run(ordinary, place), want, "the default connector");
    await ready(seed);
    const ours = new Accelerated(seed);
    const before = ours.hits;
    assert.equal(await run(ours, place), want, "ours");
    const hits = ours.hits - before;
    await Promise.all(ours.connectors.map((each) => each.close()));
    if (isNeverHit) assert.is(hits, 0);
    else assert.ok(hits > 0, "nothing was accelerated");
  });
}

parity.run();
