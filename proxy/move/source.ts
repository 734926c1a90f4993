/** The host that sessions leave: freezes them, sends them, and lets go when the other host has all of them. */
import { once } from "node:events";
import { connect } from "node:tls";
import type { Logger } from "pino";
import { type Checkpoint, openGuard, rethrow } from "../checkpoint/checkpoint.ts";
import type { SessionImage } from "../checkpoint/images/image-schema.ts";
import { KEYS_NAME } from "../checkpoint/keys.ts";
import { StandingSessions } from "../checkpoint/standing.ts";
import { errorSymbol } from "../errors.ts";
import type { Estate } from "../upgrade/estate.ts";
import { version } from "../version.ts";
import * as limits from "./limits.ts";
import { MoveError, MoveLink, tlsOptions } from "./link.ts";
import { PROTOCOL_VERSION } from "./messages.ts";
import { rehearse } from "./rehearsal.ts";

export interface MoveRequest {
  readonly host: string;
  readonly port: number;
  /** Where the two files of `accelproxy keys` are. */
  readonly keys: string;
}

/**
 * Gives every session to an accelproxy that receives. From its return on they are the other's, which waits for their
 * addresses: take them away from this host. Rejects with AccelproxyError, and everything goes on.
 */
export async function move(estate: Estate, request: MoveRequest, log: Logger): Promise<Checkpoint> {
  using guard = openGuard();
  const link = await dial(request);
  try {
    await link.send({ kind: "hello", version: PROTOCOL_VERSION, program: version });
    const ready = link.receive(limits.ANSWER_LIMIT, "ready");
    ready.catch(() => {}); // whoever awaits it is told
    await rehearse(guard, log).catch(rethrow);
    await ready;
    const startedMs = performance.now();
    const standing = await StandingSessions.gather(estate, guard).catch(rethrow);
    try {
      for (const images of batches(standing.images())) await link.send({ kind: "sessions", images });
      await link.send({ kind: "all", sessions: standing.size - standing.leftOut.length });
      await link.receive(limits.ANSWER_LIMIT, "staged");
      standing.requireGuarded();
    } catch (error) {
      await standing.goOn();
      return rethrow(error);
    }
    const durationMs = performance.now() - startedMs;
    // Whether it arrives or not, nobody can take it back: the other host goes on when it hears it, and here nothing is
    // heard or said of them any more.
    await link.send({ kind: "gone", stoodMs: standing.stoodMs }).catch(() => {});
    standing.leave();
    const { leftOut } = standing;
    const to = `${request.host}:${request.port}`;
    return { sessions: standing.size - leftOut.length, leftOut, to, durationMs };
  } finally {
    link.close();
  }
}

async function dial({ host, port, keys }: MoveRequest): Promise<MoveLink> {
  const socket = connect({ host, port, servername: KEYS_NAME, ...tlsOptions(keys) });
  const limit = setTimeout(() => socket.destroy(new Error("no answer in time")), limits.CONNECT_LIMIT);
  try {
    await once(socket, "secureConnect");
    return new MoveLink(socket);
  } catch (cause) {
    socket.destroy();
    const remedy = "start accelproxy --receive there, with the same keys";
    throw new MoveError(`${host}:${port} cannot be reached: ${errorSymbol(cause)} (${remedy})`, { cause });
  } finally {
    clearTimeout(limit);
  }
}

function* batches(images: Iterable<SessionImage>): Generator<SessionImage[]> {
  let batch: SessionImage[] = [];
  for (const image of images) {
    batch.push(image);
    if (batch.length < limits.BATCH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
