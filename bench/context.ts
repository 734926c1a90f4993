/** What every benchmark is given: labs, a folder and peers, all of which are gone when it ends. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab, type LabOptions } from "./lab/lab.ts";
import type { Row } from "./measure/compare.ts";
import type { Skipped } from "./measure/result.ts";
import type { Peer } from "./peers/peer.ts";

export interface Benchmark {
  readonly name: string;
  /** Rejects when something that was measured did not work. */
  run(context: BenchContext): Promise<Row[]>;
}

export class BenchContext implements AsyncDisposable {
  /** Fewer cases and rounds. */
  readonly quick: boolean;
  readonly folder: string;
  readonly skipped: Skipped[] = [];
  readonly peers: Record<string, string> = {};
  readonly #labs = new Set<Lab>();

  private constructor(quick: boolean, folder: string) {
    this.quick = quick;
    this.folder = folder;
  }

  static async create(quick: boolean): Promise<BenchContext> {
    return new BenchContext(quick, await mkdtemp(join(tmpdir(), "accelproxy-bench-")));
  }

  /** A lab that closeLab() or the end of the benchmark closes. Rejects with LabError. */
  async lab(options?: LabOptions): Promise<Lab> {
    const lab = await Lab.create(options);
    this.#labs.add(lab);
    return lab;
  }

  async closeLab(lab: Lab): Promise<void> {
    this.#labs.delete(lab);
    await lab.close();
  }

  /** Those that can run here; the others become skipped rows. */
  available(peers: readonly Peer[]): Peer[] {
    return peers.filter((peer) => {
      const why = peer.missing();
      if (why === undefined) this.peers[peer.name] = peer.version();
      else this.skip(peer.name, why);
      return why === undefined;
    });
  }

  /** A row that this machine, or a quick run, does not have: said at once, and kept in the result beside those it has. */
  skip(what: string, why: string): void {
    if (this.skipped.some((one) => one.what === what && one.why === why)) return;
    this.skipped.push({ what, why });
    this.say(`skipped: ${what}: ${why}`);
  }

  /** Progress, for people. */
  say(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#labs].map((lab) => this.closeLab(lab)));
    await rm(this.folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
