/** The proxy as a process with a configuration of http listeners, on loopback and without acceleration unless told. */
import { writeFileSync } from "node:fs";
import { build } from "../../../scripts/build.mjs";
import { fileOf, Running } from "../command.ts";

let files = 0;

export class HttpProxy {
  /** Where its configuration is. */
  readonly file: string;
  readonly #running: Running;

  private constructor(file: string, running: Running) {
    this.file = file;
    this.#running = running;
  }

  /** Starts it with this YAML and waits until it listens. */
  static async start(config: string): Promise<HttpProxy> {
    if (files === 0) build();
    files += 1;
    const file = fileOf(`http-${files}.yaml`, withDefaults(config));
    const running = new Running(["--config", file]);
    await running.logged("started");
    return new HttpProxy(file, running);
  }

  get pid(): number {
    return this.#running.child.pid!;
  }

  port(listener: string): number {
    const line = this.#running.log.find((one) => one.msg === "listening" && one.listener === listener);
    if (line === undefined) throw new Error(`${listener} does not listen`);
    return Number(String(line.address).split(":").at(-1));
  }

  /** Access lines so far. */
  get requests(): Record<string, unknown>[] {
    return this.#running.log.filter(({ msg }) => msg === "request");
  }

  /** The `count`th line with this message, as soon as it is there. */
  logged(msg: string, count = 1): Promise<Record<string, unknown>> {
    return this.#running.logged(msg, count);
  }

  /** Has it read a new configuration; resolves with what it says to that. */
  async reload(config: string, says = "configuration reloaded"): Promise<Record<string, unknown>> {
    writeFileSync(this.file, withDefaults(config));
    const before = this.#running.log.filter(({ msg }) => msg === says).length;
    this.signal("SIGHUP");
    return this.#running.logged(says, before + 1);
  }

  signal(signal: NodeJS.Signals): void {
    this.#running.kill(signal);
  }

  /** Resolves with its exit code. */
  async stop(): Promise<number | null> {
    this.#running.kill("SIGTERM");
    this.#running.kill("SIGTERM");
    return (await this.#running.ended).code;
  }

  get ended(): Running["ended"] {
    return this.#running.ended;
  }
}

function withDefaults(config: string): string {
  return `${config}\n${config.includes("acceleration:") ? "" : "acceleration: off\n"}workers: 1\n`;
}
