import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { NetworkNamespace } from "../../native/net/netns.ts";
import { LabError } from "./lab-error.ts";
import { type End, type LinkPlan, linkAddress } from "./topology.ts";

export interface RunOptions {
  /** Written to the command's standard input. */
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Then it is killed. */
  readonly timeoutMs?: number;
}

export interface RunResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A host of the lab: a network namespace and the processes this one started in it. */
export class Host {
  readonly name: string;
  readonly #namespace: NetworkNamespace;
  readonly #links: readonly LinkPlan[];
  readonly #running = new Set<ChildProcess>();

  /** Opens the namespace by its path in the delay line's process. */
  constructor(name: string, namespacePath: string, links: readonly LinkPlan[]) {
    this.name = name;
    this.#namespace = NetworkNamespace.open(namespacePath);
    this.#links = links;
  }

  /** For other processes of this user: `nsenter --net=PATH COMMAND`. */
  get namespacePath(): string {
    return this.#namespace.path;
  }

  /** Its address on its first link, or on the one to `peer`. Throws LabError ACCEL_LAB_USAGE without one. */
  address(family: 4 | 6 = 4, peer?: string): string {
    for (const [index, { hosts }] of this.#links.entries()) {
      const end: End | undefined = hosts[0] === this.name ? 0 : hosts[1] === this.name ? 1 : undefined;
      if (end === undefined || (peer !== undefined && !hosts.includes(peer))) continue;
      return linkAddress(index, end, family).text;
    }
    throw new LabError("ACCEL_LAB_USAGE", `host "${this.name}" has no link${peer ? ` to "${peer}"` : ""}`);
  }

  /**
   * Starts a process on this host; everything as in node:child_process. It is killed, with all that it starts,
   * when the lab closes or its owner dies.
   */
  spawn(command: string, args: readonly string[] = [], options: SpawnOptions = {}): ChildProcess {
    const child = this.enter(() => spawn(command, args, options));
    this.#running.add(child);
    const forget = (): void => void this.#running.delete(child);
    child.once("exit", forget).once("error", forget);
    return child;
  }

  /** Runs a command to its end. A failure is in the result; rejects only when it cannot be started. */
  async run(command: string, args: readonly string[] = [], options: RunOptions = {}): Promise<RunResult> {
    const { input = "", env = process.env, timeoutMs } = options;
    const child = this.spawn(command, args, {
      env,
      stdio: "pipe",
      killSignal: "SIGKILL",
      ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
    });
    const closed = once(child, "close");
    // A command that ends without reading its input is no failure of ours.
    child.stdin!.on("error", () => undefined).end(input);
    const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!), closed]);
    return { stdout, stderr, code: child.exitCode, signal: child.signalCode };
  }

  /**
   * Runs synchronous work with this thread on the host: native sockets made meanwhile belong to it. Node's own
   * sockets come about later and do not; give them a process with spawn().
   */
  enter<T>(action: () => T): T {
    return this.#namespace.enter(action);
  }

  /**
   * Sets kernel parameters, e.g. `{ "net.ipv4.tcp_syncookies": 0 }`. Throws LabError ACCEL_LAB_USAGE naming the
   * parameter that does not exist (ENOENT), refuses the value (EINVAL) or may not be set (EPERM).
   */
  sysctl(values: Readonly<Record<string, string | number>>): void {
    this.enter(() => {
      for (const [name, value] of Object.entries(values)) {
        try {
          writeFileSync(`/proc/sys/${name.replaceAll(".", "/")}`, String(value), { flag: "r+" });
        } catch (cause) {
          const reason = cause instanceof Error ? cause.message : String(cause);
          throw new LabError("ACCEL_LAB_USAGE", `sysctl ${name}=${value} on "${this.name}": ${reason}`, {
            cause,
          });
        }
      }
    });
  }

  /** Identifies the namespace among all, as /proc/PID/ns/net does. */
  get namespaceInode(): number {
    return this.#namespace.inode;
  }

  /** Resolves once the processes started by spawn() and run() have ended. */
  async processesEnded(): Promise<void> {
    await Promise.all([...this.#running].map((child) => once(child, "exit")));
  }

  /** Gives the namespace up. */
  close(): void {
    this.#namespace.close();
  }
}
