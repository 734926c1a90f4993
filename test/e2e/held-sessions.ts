/** Connections that a client keeps open while the proxy on their way is changed, in the world of transparent-world.ts. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import { LINE_PORT, type TransparentWorld } from "./transparent-world.ts";

/** One connection: to whom, and from which of the client's addresses. */
export interface Ends {
  readonly to: string;
  readonly from: string;
}

/** Sends each line that it is given on all connections, and prints their answers or what became of them. */
const PROGRAM = `
  const net = require("node:net");
  const sockets = JSON.parse(process.argv[1]).map(({ to, from }) => net.connect({ host: to, port: ${LINE_PORT}, localAddress: from }));
  const ends = sockets.map((socket) => new Promise((done) => {
    socket.setNoDelay(true).on("error", (error) => done(String(error.code))).on("close", () => done("closed"));
  }));
  const answer = (socket, at) => Promise.race([ends[at], new Promise((done) => socket.once("data", (data) => done(String(data).trim())))]);
  Promise.all(sockets.map((socket) => new Promise((done) => socket.once("connect", done)))).then(() => console.log("open"));
  require("node:readline").createInterface({ input: process.stdin }).on("line", async (line) => {
    const answers = sockets.map(answer);
    for (const socket of sockets) socket.write(line + "\\n");
    console.log(JSON.stringify(await Promise.all(answers)));
  });`;

const ANSWER_LIMIT_MS = 15_000;

export class HeldSessions {
  readonly #ends: readonly Ends[];
  readonly #child: ChildProcess;
  readonly #lines: Interface;

  private constructor(ends: readonly Ends[], child: ChildProcess) {
    this.#ends = ends;
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! });
  }

  /** Opens them, and says nothing yet. */
  static async open(lab: TransparentWorld, ends: readonly Ends[]): Promise<HeldSessions> {
    const child = lab.world.lab
      .host("client")
      .spawn(process.execPath, ["-e", PROGRAM, JSON.stringify(ends)], { stdio: ["pipe", "pipe", "inherit"] });
    const held = new HeldSessions(ends, child);
    await held.#line();
    return held;
  }

  /** Says `word` on each; resolves with what is wrong with the answers. `seen` is the address an origin is to see. */
  async ask(word: string, seen: (from: string) => string): Promise<readonly string[]> {
    const answers = this.#line();
    this.#child.stdin!.write(`${word}\n`);
    const said = JSON.parse(await answers) as string[];
    return this.#ends.flatMap(({ to, from }, index) => {
      const answer = said[index]!.replaceAll("::ffff:", "");
      const wanted = `${to} ${seen(from)} ${word}`;
      return answer === wanted ? [] : [`${answer} instead of ${wanted}`];
    });
  }

  close(): void {
    this.#child.kill("SIGKILL");
  }

  async #line(): Promise<string> {
    const [line] = await once(this.#lines, "line", { signal: AbortSignal.timeout(ANSWER_LIMIT_MS) });
    return String(line);
  }
}
