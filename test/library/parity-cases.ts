/**
 * What clients do to a server, as undici's own tests have it. A case gets a way to make dispatchers, runs, and says what
 * came of it as data, so that two ways to connect can be compared.
 */
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import { PassThrough, Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import {
  Agent,
  type buildConnector,
  Client,
  type Dispatcher,
  fetch,
  getGlobalDispatcher,
  Pool,
  RetryAgent,
  setGlobalDispatcher,
} from "undici";

/** A way to connect: undici's `connect` option, and the agents of Node. */
export interface Way {
  connect(options?: buildConnector.BuildOptions): NonNullable<Agent.Options["connect"]>;
  agent<T extends http.Agent>(agent: T): T;
}

export interface Place {
  readonly plain: string;
  readonly secure: string;
  readonly ca: string;
  /** Nobody listens, and nobody answers. */
  readonly refusing: string;
  readonly silent: string;
  /** What the server counted since the case began. */
  seen(): { readonly connections: number; readonly resumed: number };
}

export interface Case {
  readonly name: string;
  readonly want: unknown;
  /** No server answers, so nothing can be accelerated. */
  readonly isNeverHit?: boolean;
  run(way: Way, place: Place): Promise<unknown>;
}

const CONCURRENT = 1_000;

const text = (body: Dispatcher.ResponseData["body"]): Promise<string> => body.text();

/** The code or name of what a promise rejects with. */
async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "no failure";
  } catch (error) {
    const { code, name, cause } = error as NodeJS.ErrnoException & { cause?: NodeJS.ErrnoException };
    const known = cause?.code ?? code;
    return typeof known === "string" ? known : name; // a DOMException has numbers
  }
}

/** Runs with a dispatcher, which is closed afterwards. */
async function using<T extends Dispatcher, R>(dispatcher: T, run: (dispatcher: T) => Promise<R>): Promise<R> {
  try {
    return await run(dispatcher);
  } finally {
    await dispatcher.destroy();
  }
}

const plainAgent = <R>(
  way: Way,
  run: (agent: Agent) => Promise<R>,
  options: Agent.Options = {},
): Promise<R> => using(new Agent({ ...options, connect: way.connect() }), run);

const secureAgent = <R>(
  way: Way,
  { ca }: Place,
  run: (agent: Agent) => Promise<R>,
  options: buildConnector.BuildOptions = {},
): Promise<R> =>
  using(new Agent({ connect: way.connect({ ca, ...options }), allowH2: options.allowH2 === true }), run);

/** One exchange of node:http or node:https. */
async function exchange(module: typeof http | typeof https, options: https.RequestOptions): Promise<string> {
  const request = module.request(options);
  request.end("node");
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  return Buffer.concat(await response.toArray()).toString();
}

const portOf = (origin: string): number => Number(new URL(origin).port);

export const CASES: readonly Case[] = [
  {
    name: "a request",
    want: [
      200,
      "text/plain",
      { method: "GET", httpVersion: "1.1", isHost: true, servername: null, length: 0 },
    ],
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const { statusCode, headers, body } = await agent.request({
          origin: plain,
          path: "/",
          method: "GET",
        });
        return [statusCode, headers["content-type"], await body.json()];
      }),
  },
  {
    name: "a body of text",
    want: "x".repeat(10_000),
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const options = { origin: plain, path: "/echo", method: "POST", body: "x".repeat(10_000) } as const;
        return text((await agent.request(options)).body);
      }),
  },
  {
    name: "a body from a stream, in chunks",
    want: "onetwothree",
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const body = Readable.from(["one", "two", "three"]);
        return text((await agent.request({ origin: plain, path: "/echo", method: "PUT", body })).body);
      }),
  },
  {
    name: "1 MiB both ways",
    want: 1 << 20,
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const body = Buffer.alloc(1 << 20, 7);
        const response = await agent.request({ origin: plain, path: "/echo", method: "POST", body });
        return (await response.body.arrayBuffer()).byteLength;
      }),
  },
  {
    name: "stream()",
    want: "streamed",
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        let got = "";
        const sink = new Writable({
          write: (chunk, _encoding, done) => {
            got += chunk;
            done();
          },
        });
        await agent.stream({ origin: plain, path: "/echo", method: "POST", body: "streamed" }, () => sink);
        return got;
      }),
  },
  {
    name: "pipeline()",
    want: "piped",
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const output = new PassThrough();
        const duplex = agent.pipeline({ origin: plain, path: "/echo", method: "POST" }, ({ body }) => body);
        await pipeline(Readable.from(["piped"]), duplex, output);
        return Buffer.concat(await output.toArray()).toString();
      }),
  },
  {
    name: "upgrade()",
    want: ["echo", "hello"],
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const { headers, socket } = await agent.upgrade({
          origin: plain,
          path: "/",
          protocol: "echo",
        } as never);
        socket.write("hello");
        const [chunk] = (await once(socket, "data")) as [Buffer];
        socket.destroy();
        return [headers.upgrade, chunk.toString()];
      }),
  },
  {
    name: "CONNECT",
    want: [200, "tunnel"],
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const { statusCode, socket } = await agent.connect({ origin: plain, path: "x:1" } as never);
        socket.write("tunnel");
        const [chunk] = (await once(socket, "data")) as [Buffer];
        socket.destroy();
        return [statusCode, chunk.toString()];
      }),
  },
  {
    name: "an abort before anything",
    want: "AbortError",
    run: (way, { plain }) =>
      plainAgent(way, (agent) =>
        failure(agent.request({ origin: plain, path: "/", method: "GET", signal: AbortSignal.abort() })),
      ),
  },
  ...["while connecting", "while waiting for the answer"].map(
    (name, index): Case => ({
      name: `an abort ${name}`,
      want: "AbortError",
      run: (way, { plain }) =>
        plainAgent(way, async (agent) => {
          const abort = new AbortController();
          const failed = failure(
            agent.request({ origin: plain, path: "/slow", method: "GET", signal: abort.signal }),
          );
          if (index > 0) await sleep(50);
          abort.abort();
          const outcome = await failed;
          await sleep(20);
          return outcome;
        }),
    }),
  ),
  {
    name: "an abort in the middle of the request's body",
    want: "AbortError",
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const abort = new AbortController();
        const body = new PassThrough();
        body.write("beginning");
        const { signal } = abort;
        const failed = failure(agent.request({ origin: plain, path: "/echo", method: "POST", body, signal }));
        await sleep(50);
        abort.abort();
        return failed;
      }),
  },
  {
    name: "an abort in the middle of the answer",
    want: "AbortError",
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const abort = new AbortController();
        const { signal } = abort;
        const { body } = await agent.request({ origin: plain, path: "/endless", method: "GET", signal });
        const failed = failure(text(body));
        await sleep(30);
        abort.abort();
        return failed;
      }),
  },
  {
    name: "a header timeout",
    want: "UND_ERR_HEADERS_TIMEOUT",
    run: (way, { plain }) =>
      plainAgent(way, (agent) =>
        failure(agent.request({ origin: plain, path: "/slow", method: "GET", headersTimeout: 300 })),
      ),
  },
  {
    name: "a body timeout",
    want: "UND_ERR_BODY_TIMEOUT",
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const { body } = await agent.request({
          origin: plain,
          path: "/half",
          method: "GET",
          bodyTimeout: 300,
        });
        return failure(text(body));
      }),
  },
  {
    name: "a server that refuses",
    want: "ECONNREFUSED",
    isNeverHit: true,
    run: (way, { refusing }) =>
      plainAgent(way, (agent) => failure(agent.request({ origin: refusing, path: "/", method: "GET" }))),
  },
  {
    name: "a server that does not answer",
    want: "UND_ERR_CONNECT_TIMEOUT",
    isNeverHit: true,
    run: (way, { silent }) =>
      using(new Agent({ connect: way.connect({ timeout: 300 }) }), (agent) =>
        failure(agent.request({ origin: silent, path: "/", method: "GET" })),
      ),
  },
  {
    name: "a server that closes instead of answering",
    want: "UND_ERR_SOCKET",
    run: (way, { plain }) =>
      plainAgent(way, (agent) => failure(agent.request({ origin: plain, path: "/close", method: "GET" }))),
  },
  {
    name: "a server that resets instead of answering",
    want: "ECONNRESET",
    run: (way, { plain }) =>
      plainAgent(way, (agent) =>
        failure(agent.request({ origin: plain, path: "/reset", method: "POST", body: "x" })),
      ),
  },
  {
    name: "an answer that ends early",
    want: "UND_ERR_SOCKET",
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const { body } = await agent.request({ origin: plain, path: "/half", method: "GET" });
        body.on("error", () => {});
        const failed = failure(text(body));
        await sleep(20);
        await agent
          .request({ origin: plain, path: "/", method: "GET" })
          .then(({ body: other }) => other.dump());
        await agent.destroy();
        return (await failed) === "UND_ERR_DESTROYED" ? "UND_ERR_SOCKET" : failed;
      }),
  },
  {
    name: "keep-alive",
    want: [1, 3],
    run: (way, place) =>
      using(new Client(place.plain, { connect: way.connect() as never }), async (client) => {
        const before = place.seen().connections;
        let answers = 0;
        for (let index = 0; index < 3; index++) {
          const { statusCode, body } = await client.request({ path: "/", method: "GET" });
          await body.dump();
          if (statusCode === 200) answers += 1;
        }
        return [place.seen().connections - before, answers];
      }),
  },
  {
    name: "pipelined requests",
    want: ["0", "1", "2", "3"],
    run: (way, { plain }) =>
      using(new Client(plain, { connect: way.connect() as never, pipelining: 4 }), (client) =>
        Promise.all(
          ["0", "1", "2", "3"].map(async (body) =>
            text((await client.request({ path: "/echo", method: "PUT", body, idempotent: true })).body),
          ),
        ),
      ),
  },
  {
    name: "a Pool",
    want: ["a", "b", "c"],
    run: (way, { plain }) =>
      using(new Pool(plain, { connect: way.connect() as never, connections: 2 }), (pool) =>
        Promise.all(
          ["a", "b", "c"].map(async (body) =>
            text((await pool.request({ path: "/echo", method: "POST", body })).body),
          ),
        ),
      ),
  },
  {
    name: "a RetryAgent",
    want: "again",
    run: async (way, { plain }) =>
      using(new RetryAgent(new Agent({ connect: way.connect() })), async (agent) =>
        text((await agent.request({ origin: plain, path: "/echo", method: "PUT", body: "again" })).body),
      ),
  },
  {
    name: "fetch through the global dispatcher",
    want: [200, "fetched"],
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const before = getGlobalDispatcher();
        setGlobalDispatcher(agent);
        try {
          const response = await fetch(`${plain}/echo`, { method: "POST", body: "fetched" });
          return [response.status, await response.text()];
        } finally {
          setGlobalDispatcher(before);
        }
      }),
  },
  {
    name: "node:http with an agent",
    want: "node",
    run: async (way, { plain }) => {
      const agent = way.agent(new http.Agent({ keepAlive: true }));
      const options = { host: "127.0.0.1", port: portOf(plain), path: "/echo", method: "POST", agent };
      const answer = await exchange(http, options);
      agent.destroy();
      return answer;
    },
  },
  {
    name: "node:https with an agent, whose second connection resumes the session",
    want: ["node", "node", 1],
    run: async (way, place) => {
      const agent = way.agent(new https.Agent({ ca: place.ca }));
      const options = { host: "127.0.0.1", port: portOf(place.secure), path: "/echo", method: "POST", agent };
      const before = place.seen().resumed;
      const headers = { connection: "close" };
      const first = await exchange(https, { ...options, headers });
      const second = await exchange(https, { ...options, headers });
      agent.destroy();
      return [first, second, place.seen().resumed - before];
    },
  },
  {
    name: "TLS with a server name",
    want: { method: "GET", httpVersion: "1.1", isHost: true, servername: "origin.test", length: 0 },
    run: (way, place) =>
      secureAgent(
        way,
        place,
        async (agent) =>
          (await agent.request({ origin: place.secure, path: "/", method: "GET" })).body.json(),
        { servername: "origin.test" } as buildConnector.BuildOptions,
      ),
  },
  {
    name: "TLS with a certificate nobody vouches for",
    want: "DEPTH_ZERO_SELF_SIGNED_CERT",
    run: (way, { secure }) =>
      plainAgent(way, (agent) => failure(agent.request({ origin: secure, path: "/", method: "GET" }))),
  },
  {
    name: "TLS, whose second connection resumes the session",
    want: 1,
    run: (way, place) =>
      using(new Client(place.secure, { connect: way.connect({ ca: place.ca }) as never }), async (client) => {
        const before = place.seen().resumed;
        for (let index = 0; index < 2; index++) {
          await (await client.request({ path: "/", method: "GET", reset: true })).body.dump();
          await sleep(30);
        }
        return place.seen().resumed - before;
      }),
  },
  {
    name: "ALPN: h2, several at a time",
    want: ["2.0", "2.0", "2.0"],
    run: (way, place) =>
      secureAgent(
        way,
        place,
        (agent) =>
          Promise.all(
            [1, 2, 3].map(async () => {
              const { body } = await agent.request({ origin: place.secure, path: "/", method: "GET" });
              return ((await body.json()) as { httpVersion: string }).httpVersion;
            }),
          ),
        { allowH2: true },
      ),
  },
  {
    name: `${CONCURRENT} requests at a time`,
    want: CONCURRENT,
    run: (way, { plain }) =>
      plainAgent(way, async (agent) => {
        const answers = await Promise.all(
          Array.from({ length: CONCURRENT }, async (_, index) => {
            const options = { origin: plain, path: "/echo", method: "POST", body: String(index) } as const;
            return text((await agent.request(options)).body);
          }),
        );
        return answers.filter((answer, index) => answer === String(index)).length;
      }),
  },
];
