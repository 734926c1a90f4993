/** The TLS connection of a move: messages both ways, every length and field checked. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { TLSSocket } from "node:tls";
import { decode, encode } from "cborg";
import { keyFiles } from "../checkpoint/keys.ts";
import { AccelproxyError, errorSymbol } from "../errors.ts";
import { FRAME_MAX, HEADER_SIZE } from "./limits.ts";
import { type Message, messageSchema } from "./messages.ts";
import { sharedLists, shareLists } from "./shared-lists.ts";

export class MoveError extends AccelproxyError {
  override readonly name = "MoveError";

  constructor(message: string, options?: ErrorOptions) {
    super("ACCEL_MOVE", message, options);
  }
}

/** What both ends give to node:tls: they show the certificate that both have, and take no other. Throws MoveError. */
export function tlsOptions(dir: string) {
  const { keyFile, certificateFile } = keyFiles(dir);
  try {
    const cert = readFileSync(certificateFile);
    return { key: readFileSync(keyFile), cert, ca: cert, minVersion: "TLSv1.3" } as const;
  } catch (cause) {
    const remedy = `make them with accelproxy keys ${dir}, and copy both to the other host`;
    throw new MoveError(`${dir}: no keys: ${errorSymbol(cause)} (${remedy})`, { cause });
  }
}

export function encodeMessage(message: Message): Uint8Array {
  return encode(message.kind === "sessions" ? { ...message, images: shareLists(message.images) } : message);
}

/** A message of one of these kinds. Throws MoveError for others; what cborg throws. */
export function parseMessage<K extends Message["kind"]>(
  body: Uint8Array,
  kinds: readonly K[],
): Extract<Message, { kind: K }> {
  const parsed = messageSchema.safeParse(decode(body, sharedLists()));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new MoveError(`a message that is wrong at ${issue?.path.join(".")}: ${issue?.message}`);
  }
  const { data } = parsed;
  if (data.kind === "refused") throw new MoveError(`the other host refuses: ${data.why}`);
  if (!(kinds as readonly string[]).includes(data.kind)) {
    throw new MoveError(`${data.kind} where ${kinds.join(" or ")} should be`);
  }
  return data as Extract<Message, { kind: K }>;
}

export class MoveLink {
  readonly #socket: TLSSocket;
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  /** The socket is the link's from now on. */
  constructor(socket: TLSSocket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("error", () => {}); // whoever reads or writes is told
    this.#chunks = socket.iterator()[Symbol.asyncIterator]();
  }

  /** Resolves when the message is on its way. Rejects with MoveError. */
  async send(message: Message): Promise<void> {
    const body = encodeMessage(message);
    if (body.length > FRAME_MAX) throw new MoveError(`a message of ${body.length} bytes`);
    const header = Buffer.alloc(HEADER_SIZE);
    header.writeUInt32BE(body.length);
    this.#socket.cork();
    this.#socket.write(header);
    const isRoom = this.#socket.write(body);
    this.#socket.uncork();
    if (!isRoom && !this.#socket.destroyed) await this.#drainedOrClosed().catch(lost);
    if (this.#socket.destroyed) lost();
  }

  /** A socket that is closed without an error never drains. */
  async #drainedOrClosed(): Promise<void> {
    const waiting = new AbortController();
    const { signal } = waiting;
    const events = ["drain", "close"].map((event) => once(this.#socket, event, { signal }));
    await Promise.race(events).finally(() => waiting.abort());
  }

  /** The next message of this kind. Rejects with MoveError when another comes, or none within `limitMs`. */
  async receive<K extends Message["kind"]>(
    limitMs: number,
    ...kinds: readonly K[]
  ): Promise<Extract<Message, { kind: K }>> {
    const limit = setTimeout(() => this.#socket.destroy(new Error("no answer in time")), limitMs);
    try {
      const length = (await this.#read(HEADER_SIZE)).readUInt32BE();
      if (length > FRAME_MAX) throw new MoveError(`a message of ${length} bytes`);
      return parseMessage(await this.#read(length), kinds);
    } catch (error) {
      if (error instanceof MoveError) throw error;
      return lost(error);
    } finally {
      clearTimeout(limit);
    }
  }

  close(): void {
    this.#socket.destroySoon();
  }

  async #read(length: number): Promise<Buffer> {
    const chunks = [this.#rest];
    let have = this.#rest.length;
    while (have < length) {
      const { value, done } = await this.#chunks.next();
      if (done === true) throw new Error("it closed the connection");
      chunks.push(value);
      have += value.length;
    }
    const all = chunks.length === 1 ? this.#rest : Buffer.concat(chunks);
    this.#rest = all.subarray(length);
    return all.subarray(0, length);
  }
}

function lost(cause?: unknown): never {
  throw new MoveError(`the other host is lost: ${errorSymbol(cause ?? "it closed the connection")}`, {
    cause,
  });
}
