/** A program with the library on one host of the lab, an origin on the other, 40 ms apart. */
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { type Certificate, makeCertificate, type Seen } from "../library/origin.ts";
import type { FromClient, Job, ToClient } from "./library-client.ts";
import type { FromOrigin, ToOrigin } from "./library-origin.ts";
import { World } from "./world.ts";

export const ADDRESS = "10.77.0.2";
export const RTT_MS = 40;
/** Half-opens kept for each of the two ports. */
export const MIN = 16;

export type Scheme = "http" | "https";

/** A process that answers each message with one. */
export class Program<To, From> {
  readonly #child: ChildProcess;

  constructor(child: ChildProcess) {
    this.#child = child;
  }

  async ask(message: To & { readonly kind: string }): Promise<From> {
    this.#child.send(message);
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null): void => {
        reject(new Error(`the program ended with ${code} before it answered ${message.kind}`));
      };
      this.#child.once("exit", onExit);
      this.#child.once("message", (answer) => {
        this.#child.off("exit", onExit);
        resolve(answer as From);
      });
    });
  }
}

export class LibraryWorld {
  protected readonly world: World;
  /** The origin itself, by scheme. */
  protected origins: Record<Scheme, string> = { http: "", https: "" };
  readonly #origin: Program<ToOrigin, FromOrigin>;
  readonly #client: Program<ToClient, FromClient>;
  #nextId = 1;

  protected constructor(world: World) {
    this.world = world;
    this.#origin = new Program(world.program("far", new URL("library-origin.ts", import.meta.url)));
    this.#client = new Program(world.program("near", new URL("library-client.ts", import.meta.url)));
  }

  static async create(): Promise<LibraryWorld> {
    const world = new LibraryWorld(
      await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] }),
    );
    await world.start(makeCertificate());
    return world;
  }

  /** Where a client finds the origin, and whether it has to accelerate connections itself. */
  protected way(scheme: Scheme, isAccelerated: boolean): Pick<Job, "origin" | "isAccelerated"> {
    return { origin: this.origins[scheme], isAccelerated };
  }

  /** Requests, numbered through, each on a fresh connection; all jobs at once. */
  async requests(
    jobs: readonly (Pick<Job, "method" | "count"> & Partial<Job> & { readonly scheme: Scheme })[],
  ): Promise<FromClient> {
    const numbered = jobs.map(({ scheme, isAccelerated = true, ...job }) => {
      const first = this.#nextId;
      this.#nextId += job.count;
      return { isOneByOne: false, first, ...job, ...this.way(scheme, isAccelerated) };
    });
    return this.#client.ask({ kind: "requests", jobs: numbered });
  }

  /** Median time of fresh GETs one after another, ms, with our connector and with undici's. Throws when one failed. */
  async medians(scheme: Scheme, count: number): Promise<{ readonly ours: number; readonly theirs: number }> {
    await this.ready();
    const measure = async (isAccelerated: boolean): Promise<number> => {
      const job = { scheme, method: "GET", count, isOneByOne: true, isAccelerated } as const;
      const { answered } = await this.requests([job]);
      const failed = answered.find(({ error }) => error !== undefined);
      if (failed) throw new Error(failed.error);
      return answered.map(({ ms }) => ms).sort((a, b) => a - b)[count >> 1]!;
    };
    return { ours: await measure(true), theirs: await measure(false) };
  }

  /** Resolves once half-opens are ready for both ports. */
  async ready(): Promise<void> {
    await this.#client.ask({ kind: "warmUp", origins: Object.values(this.origins) });
  }

  /**
   * Has the origin forget its half-opens, asks for as many pages as it had, in both ways over plain TCP and TLS, and
   * resolves with what failed or was not processed exactly once.
   */
  async forgetAndAsk(): Promise<readonly string[]> {
    await this.ready();
    await this.#origin.ask({ kind: "forget" });
    const schemes: readonly Scheme[] = ["http", "https"];
    const { answered } = await this.requests(
      schemes.flatMap((scheme) =>
        (["GET", "POST"] as const).map((method) => ({ scheme, method, count: MIN / 2 })),
      ),
    );
    const { requests } = await this.seen();
    const problems = answered.flatMap(({ id, error }) => {
      if (error !== undefined) return [`${id}: ${error}`];
      return requests[id] === 1 ? [] : [`${id}: processed ${requests[id] ?? 0} times`];
    });
    await sleep(1_050); // for a second after that the origin gets ordinary connections
    return problems;
  }

  async seen(): Promise<Seen> {
    const answer = await this.#origin.ask({ kind: "seen" });
    if (answer.kind !== "seen") throw new Error(answer.kind);
    return answer.seen;
  }

  async close(): Promise<void> {
    await this.world.close();
  }

  protected async start(certificate: Certificate): Promise<void> {
    await this.startOrigin(certificate);
    await this.ready();
  }

  /** Starts the origin, and the client that trusts it. */
  protected async startOrigin(certificate: Certificate): Promise<void> {
    const up = await this.#origin.ask({ kind: "start", host: ADDRESS, certificate });
    if (up.kind === "seen") throw new Error(up.kind);
    const { plain, secure } = up.ports;
    this.origins = { http: `http://${ADDRESS}:${plain}`, https: `https://${ADDRESS}:${secure}` };
    await this.#client.ask({ kind: "start", ca: certificate.cert, min: MIN });
  }
}
