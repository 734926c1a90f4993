import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { Socket } from "node:net";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { LabError } from "./lab-error.ts";
import { CONTROL_DESCRIPTOR, type Reply, type Request } from "./protocol.ts";

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/**
 * The owner's end of the delay line: starts the process, asks it, notices its end. It keeps this process
 * alive only while a request waits for its answer: a lab that was forgotten does not.
 */
export class DelayLineClient {
  readonly #process: ChildProcess;
  readonly #socket: Socket;
  readonly #waiting: Waiting[] = [];
  #unread = "";
  #isClosing = false;
  #end: LabError | undefined;
  readonly #onEnd: () => void;

  /** Starts the process. `onEnd` is called once it has ended, however. */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
    // The same kind of file as this one: TypeScript in the sources, JavaScript in dist/.
    const script = new URL(`./delay-line${extname(import.meta.url)}`, import.meta.url);
    // Its own session: a signal to the owner's process group must leave it the time to clean up. What a
    // filter prints goes to stderr, stdout is the owner's.
    this.#process = spawn(process.execPath, [...process.execArgv, fileURLToPath(script)], {
      detached: true,
      stdio: ["ignore", 2, 2, "pipe"],
    });
    const socket = this.#process.stdio[CONTROL_DESCRIPTOR];
    if (!(socket instanceof Socket)) throw new Error("the control socket of the delay line is missing");
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", (error) => this.#finish(error));
    this.#process.on("error", (error) => this.#finish(error));
    this.#process.on("exit", () => this.#finish(undefined));
    this.#process.unref();
    socket.unref();
  }

  /** The delay line's process. Throws LabError ACCEL_LAB_FAILED when it could not be started. */
  get pid(): number {
    const { pid } = this.#process;
    if (pid === undefined) throw new LabError("ACCEL_LAB_FAILED", "the delay line could not be started");
    return pid;
  }

  /** Resolves with the answer's value, or rejects with the LabError it names. */
  ask(request: Request): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#end !== undefined) {
        reject(this.#end);
        return;
      }
      if (this.#waiting.push({ resolve, reject }) === 1) {
        this.#process.ref();
        this.#socket.ref();
      }
      this.#socket.write(`${JSON.stringify(request)}\n`);
    });
  }

  /** Has the process clean up and waits until it is gone. */
  async close(): Promise<void> {
    if (this.#end !== undefined) return;
    const exit = once(this.#process, "exit");
    this.#isClosing = true;
    this.#process.ref();
    this.#socket.end(`${JSON.stringify({ op: "close" } satisfies Request)}\n`);
    await exit;
  }

  #receive(text: string): void {
    const lines = (this.#unread + text).split("\n");
    this.#unread = lines.pop() ?? "";
    for (const line of lines) {
      const reply: Reply = JSON.parse(line);
      const waiting = this.#waiting.shift();
      if (reply.ok) waiting?.resolve(reply.value);
      else waiting?.reject(new LabError(reply.code, reply.message));
    }
    if (this.#waiting.length > 0 || this.#isClosing) return;
    this.#process.unref();
    this.#socket.unref();
  }

  #finish(cause: Error | undefined): void {
    if (this.#end !== undefined) return;
    this.#end = new LabError("ACCEL_LAB_FAILED", "the delay line has ended", { cause });
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#end);
    this.#socket.destroy();
    this.#onEnd();
  }
}
