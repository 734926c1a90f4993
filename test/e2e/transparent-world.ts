/**
 * A client, a gateway with accelproxy and three origins behind it, for the tests of transparent interception. The origins
 * have more addresses than their own: 50 of either family, which all answer.
 */
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseConfig } from "../../config/load.ts";
import { formatAddress } from "../../native/address.ts";
import { applyInterception, removeInterception } from "../../proxy/intercept/intercept.ts";
import { World } from "./world.ts";

export const RTT_MS = 20;
export const PORT = 8080;
/** Where origins answer lines for as long as a connection lasts. */
export const LINE_PORT = 8081;
/** In the gateway's configuration. */
export const LISTENER_PORT = 7070;
const ORIGINS = ["one", "two", "three"] as const;

/** `method` and `traffic` of both listeners, and more keys of the upstream. */
export interface Interception {
  readonly method: "tproxy" | "redirect";
  readonly traffic?: "forwarded" | "local" | "both";
  readonly listener?: string;
  readonly upstream?: string;
}

export function transparentConfig({
  method,
  traffic = "forwarded",
  listener = "",
  upstream = "",
}: Interception): string {
  const listenerOf = (name: string, bind: string) =>
    `  - { name: ${name}, bind: "${bind}:${LISTENER_PORT}", mode: transparent, upstream: learned, intercept: { method: ${method}, traffic: ${traffic} }${listener} }\n`;
  return `listeners:\n${listenerOf("all", "0.0.0.0")}${listenerOf("all6", "[::]")}upstreams:\n  learned: { connectTimeout: 5s${upstream} }\n`;
}

export interface Fetched {
  readonly text: string;
  readonly code: number | null;
  /** Connected, and first byte of the answer, both since the request was begun. */
  readonly connectMs: number;
  readonly firstByteMs: number;
  readonly remote: string;
}

export class TransparentWorld implements AsyncDisposable {
  readonly world: World;

  private constructor(world: World) {
    this.world = world;
  }

  static async create(): Promise<TransparentWorld> {
    const links = [
      { between: ["client", "gateway"] as const, rttMs: 0 },
      ...ORIGINS.map((origin) => ({ between: ["gateway", origin] as const, rttMs: RTT_MS })),
    ];
    const world = await World.create({
      hosts: ["client", "gateway", ...ORIGINS],
      links,
      forward: ["gateway"],
    });
    const created = new TransparentWorld(world);
    for (const index of ORIGINS.keys()) await created.#startOrigin(index);
    return created;
  }

  /** Address number `index` of 50. */
  destination(index: number, family: 4 | 6): string {
    const origin = index % ORIGINS.length;
    return family === 4
      ? `10.90.${origin}.${index + 1}`
      : `fd90:0:0:${origin + 1}::${(index + 1).toString(16)}`;
  }

  /** Address number `index` of the client's host beside its own; addClients() comes first. */
  clientAddress(index: number, family: 4 | 6): string {
    return family === 4
      ? `10.80.${index >>> 8}.${index & 0xff}`
      : formatAddress(Uint8Array.from([0xfd, 0x80, ...Array(12).fill(0), index >>> 8, index & 0xff]));
  }

  /** Gives the client's host thousands of addresses. */
  async addClients(): Promise<void> {
    for (const [family, network] of [
      ["-4", "10.80.0.0/16"],
      ["-6", "fd80::/112"],
    ] as const) {
      await this.#ip("client", family, ["route", "add", "local", network, "dev", "lo"]);
      await this.#ip("gateway", family, ["route", "add", network, "dev", "wan0"]);
      for (const origin of ORIGINS)
        await this.#ip(origin, family, ["route", "replace", network, "dev", "wan0"]);
    }
    await this.world.lab.host("client").run("sysctl", ["-qw", "net.ipv6.ip_nonlocal_bind=1"]);
  }

  /** One request with curl, which knows nothing of a proxy, from one of the client's addresses. */
  async fetch(
    address: string,
    { host = "client", path = "/", port = PORT, from = "" } = {},
  ): Promise<Fetched> {
    const target = address.includes(":") ? `[${address}]` : address;
    const form = "\n%{time_connect} %{time_starttransfer} %{remote_ip}";
    const { stdout, code } = await this.world.lab
      .host(host)
      .run("curl", [
        "-gsS",
        "-m",
        "20",
        ...(from === "" ? [] : ["--interface", from]),
        "-w",
        form,
        `http://${target}:${port}${path}`,
      ]);
    const at = stdout.lastIndexOf("\n");
    const [connect = "", first = "", remote = ""] = stdout.slice(at + 1).split(" ");
    const [connectMs, firstByteMs] = [Number(connect) * 1e3, Number(first) * 1e3];
    return { text: stdout.slice(0, at), code, connectMs, firstByteMs, remote };
  }

  /** What `accelproxy intercept` does on the gateway, without a process for it. */
  intercept(config: string, action: "apply" | "remove"): void {
    const parsed = parseConfig(config, "intercept.yaml");
    if (!parsed.ok) throw new Error(parsed.problems.map(({ problem }) => problem).join("\n"));
    this.world.lab
      .host("gateway")
      .enter(() => (action === "apply" ? applyInterception(parsed.config) : removeInterception()));
  }

  /** The same by the program; resolves with what it prints. */
  async interceptCommand(config: string, action: "print" | "apply" | "remove"): Promise<string> {
    const file = join(this.world.folder, "intercept.yaml");
    writeFileSync(file, config);
    const program = new URL("../../dist/proxy/cli.js", import.meta.url).pathname;
    const result = await this.world.lab
      .host("gateway")
      .run(process.execPath, [program, "intercept", "--config", file, `--${action}`]);
    if (result.code !== 0) throw new Error(`intercept --${action}: ${result.stderr}`);
    return result.stdout;
  }

  /** All rules and routes of a host as text. */
  async rules(host = "gateway"): Promise<string> {
    const command =
      "nft list ruleset; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all | sed 's/ expires [0-9]*sec//'";
    return (await this.world.lab.host(host).run("sh", ["-c", command])).stdout;
  }

  async #startOrigin(index: number): Promise<void> {
    const origin = this.world.lab.host(ORIGINS[index]!);
    const far = (family: 4 | 6) => (family === 4 ? `10.90.${index}.0/24` : `fd90:0:0:${index + 1}::/64`);
    for (const family of [4, 6] as const) {
      await this.#ip(origin.name, ["-6", "-4"][family === 4 ? 1 : 0]!, [
        "route",
        "add",
        "local",
        far(family),
        "dev",
        "lo",
      ]);
      const device = `wan${index + 1}`;
      await this.#ip("gateway", family === 4 ? "-4" : "-6", ["route", "add", far(family), "dev", device]);
    }
    const server = `
      const http = require("node:http");
      const bytes = (n) => { const b = Buffer.alloc(n); for (let i = 0; i < n; i += 4) b.writeInt32LE(Math.imul(i, 2654435761) | 0, i); return b; };
      http.createServer((request, response) => {
        const size = Number(new URL(request.url, "http://x").searchParams.get("bytes"));
        response.setHeader("connection", "close");
        response.end(size > 0 ? bytes(size) : request.socket.localAddress + " " + request.socket.remoteAddress);
      }).listen(${PORT}, "::", 4096, () => console.log("up"));
      // Says with each line whom it was asked as, and by whom.
      require("node:net").createServer((socket) => {
        const ends = socket.localAddress + " " + socket.remoteAddress;
        socket.on("error", () => {}).on("data", (line) => socket.write(ends + " " + line));
      }).listen(${LINE_PORT}, "::");`;
    const child = origin.spawn(process.execPath, ["-e", server], { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve) => child.stdout!.once("data", resolve));
  }

  async #ip(host: string, family: string, args: readonly string[]): Promise<void> {
    const { code, stderr } = await this.world.lab.host(host).run("ip", [family, ...args]);
    if (code !== 0) throw new Error(`ip ${args.join(" ")} on ${host}: ${stderr}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world.close();
  }
}

/** SHA-256 of what the origins send for ?bytes=N; N is a multiple of 4. */
export function bodyHash(size: number): string {
  const body = Buffer.alloc(size);
  for (let at = 0; at < size; at += 4) body.writeInt32LE(Math.imul(at, 2654435761) | 0, at);
  return createHash("sha256").update(body).digest("hex");
}
