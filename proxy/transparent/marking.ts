/** What a transparent listener asks of the process beside its sessions: marks, so that it never intercepts itself. */
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

/** Decided at the start: sockets that are open then keep what they have. */
export function markingOf({ listeners }: Config): MarkingShare {
  if (!listeners.some(isTransparent)) return { mark: undefined, ownConnections: undefined };
  return { mark: OWN_MARK, ownConnections: OwnConnections.newBuffer() };
}

/** Why a process that began with `marking` cannot go on with this configuration. */
export function markingProblems({ mark }: MarkingShare, { listeners }: Config): readonly string[] {
  if (mark !== undefined || !listeners.some(isTransparent)) return [];
  return ["the first transparent listener takes a restart, since packets have to be marked"];
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
