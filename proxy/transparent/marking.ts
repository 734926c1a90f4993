/** What transparency asks of the process beside its sessions: marks, so that it never intercepts itself. */
import type { Config, Listener } from "../../config/schema.ts";
import type { Endpoint } from "../../native/address.ts";
import type { TransparentShare } from "../engine/messages.ts";
import { OwnConnections } from "../engine/own-connections.ts";
import { OWN_MARK } from "../intercept/marks.ts";
import type { ListenerSockets } from "../listener-sockets.ts";

/** How threads tell connections of ours; structured-cloneable. */
export interface MarkingShare {
  readonly mark: number | undefined;
  readonly ownConnections: SharedArrayBuffer | undefined;
}

const isTransparent = ({ mode }: Listener): boolean => mode === "transparent";

/** Whether servers see addresses of clients. */
export function usesClientAddresses({ upstreams }: Pick<Config, "upstreams">): boolean {
  return upstreams.some(({ sourceAddress }) => sourceAddress === "client");
}

const isMarked = (config: Config): boolean =>
  config.listeners.some(isTransparent) || usesClientAddresses(config);

/** Decided at the start: sockets that are open then keep what they have. */
export function markingOf(config: Config): MarkingShare {
  if (!isMarked(config)) return { mark: undefined, ownConnections: undefined };
  return { mark: OWN_MARK, ownConnections: OwnConnections.newBuffer() };
}

/** Why a process that began with `marking` cannot go on with this configuration. */
export function markingProblems({ mark }: MarkingShare, config: Config): readonly string[] {
  if (mark !== undefined || !isMarked(config)) return [];
  const what = config.listeners.some(isTransparent) ? "transparent listener" : "sourceAddress: client";
  return [`the first ${what} takes a restart, since packets have to be marked`];
}

/** Has the sockets take what is intercepted, if their listener does. Throws as ListenerSockets.intercept(). */
export function prepareSockets(sockets: ListenerSockets, listener: Listener): ListenerSockets {
  if (isTransparent(listener)) sockets.intercept(OWN_MARK);
  return sockets;
}

export function transparentShare(listener: Listener, bind: Endpoint): TransparentShare | undefined {
  const { allow, deny } = listener;
  return isTransparent(listener) ? { bind, allow, deny } : undefined;
}
