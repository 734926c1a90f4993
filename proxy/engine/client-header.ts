/**
 * The PROXY header of a session's client: read before the client's own bytes where its listener expects one, and told to
 * the upstream before them. A header that comes in pieces is kept until it is whole.
 */
import { formatAddress } from "../../native/address.ts";
import { SyscallError } from "../../native/errno.ts";
import { readEnd } from "../../native/repair/socket-reader.ts";
import {
  type AcceptedVersions,
  decodeProxyHeader,
  encodeProxyHeader,
  PROXY_HEADER_MAX,
  type ProxiedConnection,
  type ProxyEnd,
  type ProxyHeader,
  translateProxyHeader,
} from "../../native/wire/proxy-protocol.ts";
import type { Logger } from "../../pool/logger.ts";
import { NetworkList } from "../networks.ts";
import type { ListenerShare, UpstreamShare } from "./messages.ts";
import type { Relay } from "./relay.ts";

/** Whose headers a listener believes. */
export interface HeaderPolicy {
  readonly accept: AcceptedVersions;
  readonly from: NetworkList;
}

/** Undefined: all clients are ordinary ones. */
export function headerPolicy({ accept, from }: ListenerShare["proxyProtocol"]): HeaderPolicy | undefined {
  return accept === "none" ? undefined : { accept, from: new NetworkList(from) };
}

/**
 * What a look at a client's bytes says; `length` of them were the header's. nothing: it ended without a byte, as who only
 * looks whether somebody listens.
 */
export type HeaderReading =
  | { readonly kind: "whole" | "incomplete" | "nothing"; readonly length: number }
  | { readonly kind: "malformed"; readonly reason: string; readonly length: number };

const NOTHING = new Uint8Array();

export class ClientHeader {
  /** The client's own bytes have not begun. */
  isAwaited = false;
  #accept: AcceptedVersions = "any";
  #begun: Uint8Array = NOTHING;
  #header: ProxyHeader | undefined;

  /** Begins with a client of which nothing was read. Those whose headers are not believed are ordinary clients. */
  begin(policy: HeaderPolicy | undefined, client: number): void {
    this.#begun = NOTHING;
    this.#header = undefined;
    this.isAwaited = false;
    if (policy === undefined) return;
    const peer = endOf(client, "remote");
    this.isAwaited = peer !== undefined && policy.from.has(peer.address);
    this.#accept = policy.accept;
  }

  /** All that was read of it, for whoever goes on with the client. */
  get bytes(): Uint8Array {
    return this.#header?.bytes ?? this.#begun;
  }

  /** Reads on with what the client sent next; `isEnd` says that nothing follows. */
  read(bytes: Uint8Array, isEnd: boolean): HeaderReading {
    const before = this.#begun.length;
    const all = before === 0 ? bytes : Buffer.concat([this.#begun, bytes]);
    // A signature that is not followed by a length this small is refused before so much was read.
    const decoded = decodeProxyHeader(all.subarray(0, PROXY_HEADER_MAX), this.#accept);
    switch (decoded.kind) {
      case "malformed":
        return { ...decoded, length: 0 };
      case "incomplete":
        if (isEnd && all.length === 0) return { kind: "nothing", length: 0 };
        if (isEnd) return { kind: "malformed", reason: "it is cut short", length: 0 };
        this.#begun = all.slice();
        return { kind: "incomplete", length: bytes.length };
      case "header":
        this.#begun = NOTHING;
        this.#header = decoded.header;
        this.isAwaited = false;
        return { kind: "whole", length: decoded.header.bytes.length - before };
    }
  }

  /** Has the upstream told, before all else: the client's own header, or else who it is. */
  tell(relay: Relay, protocol: UpstreamShare["proxyProtocol"]): void {
    if (protocol === "none") return;
    const version = protocol === "v1" ? 1 : 2;
    const known = this.#header && translateProxyHeader(version, this.#header);
    relay.prepend(known ?? encodeProxyHeader(version, connectionOf(relay.client)));
  }

  logRefusal(log: Logger, listener: string, socket: number, reason: string): void {
    const end = endOf(socket, "remote");
    const client = end && formatAddress(end.address);
    log.warn({ listener, client, reason }, "closing a client whose PROXY header is wrong");
  }
}

/** The client's connection to us, while it has one. */
function connectionOf(client: number): ProxiedConnection | undefined {
  const [source, destination] = [endOf(client, "remote"), endOf(client, "local")];
  return source && destination && { source, destination };
}

/** Undefined once the client has reset its connection. */
function endOf(client: number, which: "local" | "remote"): ProxyEnd | undefined {
  try {
    const { address, port } = readEnd(client, which);
    return { address, port };
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return undefined;
  }
}
