/** Listeners as their workers are told of them. */
import type { Listener } from "../config/schema.ts";
import type { Endpoint } from "../native/address.ts";
import type { GateShare } from "../pool/gate.ts";
import type { ListenerShare } from "./engine/messages.ts";
import { transparentShare } from "./transparent/marking.ts";

/** How long a session may be idle whose listener is gone. */
const FORMER_IDLE_MS = 300_000;

/** Where sessions are counted, and the gate that they pass. */
type Counted = Pick<ListenerShare, "route"> & { readonly gate: GateShare };

/** Of a listener that is bound to `endpoint`, all but its sockets. */
export function listenerShare(
  config: Listener,
  endpoint: Endpoint,
  counted: Counted,
): Omit<ListenerShare, "id" | "fd"> {
  const { name, upstream, takeAfterMs, idleTimeoutMs, maxConnections, proxyProtocol } = config;
  const transparent = transparentShare(config, endpoint);
  const settings = { takeAfterMs, idleTimeoutMs, maxConnections, proxyProtocol, transparent };
  return { name, upstream, ...settings, ...counted };
}

/** For sessions of a listener that the configuration no longer has. */
export function formerShare(name: string, upstream: string, counted: Counted): ListenerShare {
  const settings = { takeAfterMs: 0, idleTimeoutMs: FORMER_IDLE_MS, maxConnections: 0 };
  return {
    ...{ id: 0, name, fd: -1, upstream },
    ...settings,
    proxyProtocol: { accept: "none", from: [] },
    ...counted,
  };
}
