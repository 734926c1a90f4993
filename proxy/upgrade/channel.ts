/**
 * Messages between the proxy that goes and the one that comes, over a unix stream. A frame:
 *
 *   magic u32 │ protocol version u16 │ descriptors u16 │ length u32 │ CBOR, `length` bytes        (little endian)
 *
 * Its descriptors come with its first byte. Every number is checked before it is used: the two are different programs.
 */
import { decode, encode } from "cborg";
import { SCM_MAX_FD } from "../../native/abi/socket.ts";
import { SyscallError } from "../../native/errno.ts";
import type { Fd } from "../../native/fd.ts";
import { RightsSocket } from "../../native/net/unix-rights.ts";
import { type Message, messageSchema, PROTOCOL_VERSION } from "./messages.ts";

const MAGIC = 0x5058_4341; // "ACXP"
const HEADER_SIZE = 12;
/** A batch of sessions holds at most twice a large buffer each. */
const FRAME_MAX = 256 << 20;
const WAIT_SLICE_MS = 100;

/** The two do not understand each other, or one has gone. */
export class ChannelError extends Error {
  override readonly name = "ChannelError";
}

export interface Incoming {
  readonly message: Message;
  /** The receiver's from now on. */
  readonly descriptors: readonly Fd[];
}

export class Channel {
  readonly #socket: RightsSocket;
  readonly #chunks: Uint8Array[] = [];
  readonly #descriptors: Fd[] = [];
  #length = 0;

  constructor(fd: Fd) {
    this.#socket = new RightsSocket(fd);
  }

  /** Sends a message. The descriptors stay the caller's. Rejects with ChannelError within `limitMs`. */
  async send(message: Message, descriptors: readonly number[], limitMs: number): Promise<void> {
    const body = encode(message);
    if (body.length > FRAME_MAX) throw new ChannelError(`a message of ${body.length} bytes`);
    const frame = Buffer.alloc(HEADER_SIZE + body.length);
    frame.writeUInt32LE(MAGIC, 0);
    frame.writeUInt16LE(PROTOCOL_VERSION, 4);
    frame.writeUInt16LE(descriptors.length, 6);
    frame.writeUInt32LE(body.length, 8);
    frame.set(body, HEADER_SIZE);
    const deadlineMs = performance.now() + limitMs;
    for (let at = 0; at < frame.length; ) {
      const sent = this.#tried(() => this.#socket.send(frame.subarray(at), at === 0 ? descriptors : []));
      at += sent;
      if (sent === 0) await this.#wait("output", deadlineMs);
    }
  }

  /** The next message. Rejects with ChannelError when the other side goes, breaks the rules or takes `limitMs`. */
  async receive(limitMs: number): Promise<Incoming> {
    const deadlineMs = performance.now() + limitMs;
    await this.#fill(HEADER_SIZE, deadlineMs);
    const header = Buffer.from(this.#take(HEADER_SIZE));
    const count = header.readUInt16LE(6);
    const length = header.readUInt32LE(8);
    if (header.readUInt32LE(0) !== MAGIC) throw new ChannelError("not a message of ours");
    const version = header.readUInt16LE(4);
    if (version !== PROTOCOL_VERSION) throw new ChannelError(`protocol ${version}, not ${PROTOCOL_VERSION}`);
    if (length > FRAME_MAX || count > SCM_MAX_FD) throw new ChannelError(`a frame of ${length} bytes`);
    await this.#fill(length, deadlineMs);
    if (this.#descriptors.length < count) throw new ChannelError("descriptors are missing");
    return { message: parse(this.#take(length)), descriptors: this.#descriptors.splice(0, count) };
  }

  /** Closes it, and descriptors that came and were not asked for. */
  close(): void {
    this.#socket.close();
    for (const fd of this.#descriptors.splice(0)) fd.close();
  }

  async #fill(length: number, deadlineMs: number): Promise<void> {
    while (this.#length < length) {
      const received = this.#tried(() => this.#socket.receive());
      if (received === undefined) {
        await this.#wait("input", deadlineMs);
        continue;
      }
      if (received.bytes.length === 0) throw new ChannelError("the other process has gone");
      this.#chunks.push(received.bytes);
      this.#length += received.bytes.length;
      this.#descriptors.push(...received.descriptors);
    }
  }

  #take(length: number): Uint8Array {
    const all = Buffer.concat(this.#chunks.splice(0));
    this.#length -= length;
    if (this.#length > 0) this.#chunks.push(all.subarray(length));
    return all.subarray(0, length);
  }

  /** In slices, so that a process that ends does not wait for a thread that waits. */
  async #wait(what: "input" | "output", deadlineMs: number): Promise<void> {
    const leftMs = deadlineMs - performance.now();
    if (leftMs <= 0) throw new ChannelError("the other process does not answer");
    await this.#socket.wait(what, Math.min(leftMs, WAIT_SLICE_MS));
  }

  #tried<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      throw new ChannelError(`the channel failed: ${error.message}`, { cause: error });
    }
  }
}

function parse(body: Uint8Array): Message {
  let value: unknown;
  try {
    value = decode(body);
  } catch (cause) {
    throw new ChannelError("a message that is no CBOR", { cause });
  }
  const parsed = messageSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ChannelError(`a message that is wrong at ${issue?.path.join(".")}: ${issue?.message}`);
}
