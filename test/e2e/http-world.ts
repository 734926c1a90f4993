/** An accelproxy with http listeners between the client and the origin of library-world.ts. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PoolStatus } from "../../proxy/status.ts";
import { type Certificate, makeCertificate } from "../library/origin.ts";
import { checkpoint } from "./checkpoint-cases.ts";
import type { Job } from "./library-client.ts";
import { ADDRESS, LibraryWorld, MIN, RTT_MS, type Scheme } from "./library-world.ts";
import { type ProxyProcess, World } from "./world.ts";

export class HttpWorld extends LibraryWorld {
  proxy!: ProxyProcess;

  static override async create(): Promise<HttpWorld> {
    const world = new HttpWorld(await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] }));
    await world.start(makeCertificate());
    return world;
  }

  /** Both half-open pools are full. */
  override async ready(): Promise<void> {
    await this.proxy.until("pools full", async () =>
      (await this.pools()).every(({ halfOpen }) => halfOpen >= MIN),
    );
  }

  /** What `accelproxy checkpoint` says to it. */
  checkpoint(): ReturnType<typeof checkpoint> {
    return checkpoint(this.world, this.proxy, join(this.world.folder, "images"));
  }

  async pools(): Promise<readonly PoolStatus[]> {
    return (await this.proxy.status()).pools;
  }

  protected override way(scheme: Scheme, isAccelerated: boolean): Pick<Job, "origin" | "isAccelerated"> {
    if (!isAccelerated) return super.way(scheme, false);
    return { origin: `http://127.0.0.1:${this.proxy.port(scheme)}`, isAccelerated: false };
  }

  protected override async start(certificate: Certificate): Promise<void> {
    await this.startOrigin(certificate);
    const ca = join(this.world.folder, "ca.pem");
    await writeFile(ca, certificate.cert);
    const [plain, secure] = [this.origins.http, this.origins.https].map((url) => new URL(url).port);
    const pool = `pool: { min: ${MIN}, max: 64, maxSynRate: 2000 }`;
    this.proxy = await this.world.proxy(`
listeners:
  - { name: http, bind: "127.0.0.1:0", mode: http, upstream: plain }
  - { name: https, bind: "127.0.0.1:0", mode: http, upstream: secure }
upstreams:
  plain: { servers: [{ address: "${ADDRESS}:${plain}" }], ${pool} }
  secure: { servers: [{ address: "${ADDRESS}:${secure}" }], ${pool}, tls: { ca: "${ca}" } }`);
    await this.ready();
  }
}
