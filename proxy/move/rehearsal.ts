/**
 * A move in small, of connections to ourselves, before anybody waits. What runs for the first time is compiled first, which
 * would be most of the pause of a move: code runs ten times as fast when it has run some hundred times.
 */
import { setImmediate } from "node:timers/promises";
import type { Logger } from "pino";
import { SOCK_CLOEXEC, SOCK_NONBLOCK } from "../../native/abi/socket.ts";
import { encodeSockaddr } from "../../native/address.ts";
import { check } from "../../native/errno.ts";
import type { NftGuard } from "../../native/guard/guard.ts";
import { libc } from "../../native/libc.ts";
import { listenTcp, localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import { GUARD_LIFETIME_S } from "../checkpoint/limits.ts";
import { resetAll } from "../checkpoint/pairs.ts";
import { ReturningSessions } from "../checkpoint/returning.ts";
import { StandingSessions, type Workers } from "../checkpoint/standing.ts";
import type { MovingSession } from "../engine/session-record.ts";
import { rehearsalRecords } from "../upgrade/rehearsal.ts";
import * as limits from "./limits.ts";
import { encodeMessage, parseMessage } from "./link.ts";

/**
 * Leaves nothing behind. Where we cannot connect to ourselves, for want of a loopback interface, a move takes longer. Rejects
 * as a move would.
 */
export async function rehearse(guard: NftGuard, log: Logger): Promise<void> {
  let sessions: readonly MovingSession[];
  try {
    sessions = connectToOurselves();
  } catch (err) {
    log.warn({ err }, "no rehearsal of the move: its pause will be longer");
    return;
  }
  for (let turn = 0; turn < limits.REHEARSALS; turn++) {
    sessions = await moveHere(sessions, guard, log);
    await setImmediate(); // for whoever else uses this thread
  }
  closeAll(sessions);
}

function closeAll(sessions: readonly MovingSession[]): void {
  resetAll(sessions.flatMap(({ sockets: { client, upstream } }) => [client, upstream!]));
}

/** All that both hosts do with sessions, in their order. */
async function moveHere(
  sessions: readonly MovingSession[],
  guard: NftGuard,
  log: Logger,
): Promise<readonly MovingSession[]> {
  const standing = await StandingSessions.gather(proxyOf(sessions), guard);
  const body = encodeMessage({ kind: "sessions", images: [...standing.images()] });
  const { images } = parseMessage(body, ["sessions"]);
  standing.leave();
  const returning = new ReturningSessions(guard, log, GUARD_LIFETIME_S);
  try {
    returning.stage(images, true);
  } catch (error) {
    returning.giveUp(true);
    throw error;
  }
  returning.arrive();
  const here: MovingSession[] = [];
  returning.goOn(
    (batch) => here.push(...batch),
    () => 0,
  );
  return here;
}

const proxyOf = (sessions: readonly MovingSession[]): Workers => ({
  stopAccepting: async () => {},
  acceptAgain: async () => {},
  depart: async () => ({ sessions, left: 0 }),
  adopt: closeAll, // of a move that failed: nobody goes on with them
});

/** Each with both ends of a connection, as if one were its client's and the other its upstream's. */
function connectToOurselves(): MovingSession[] {
  using listener = listenTcp({ address: "127.0.0.1", port: 0 }, limits.BATCH);
  const address = encodeSockaddr(localEndpoint(listener.number));
  return rehearsalRecords(limits.BATCH).map((record): MovingSession => {
    const upstream = newTcpSocket(4, SOCK_NONBLOCK);
    libc.connect(upstream.number, address, address.length); // EINPROGRESS, and done: loopback does not wait
    const client = libc.accept4(listener.number, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK);
    check(client, "accept4", { ...localEndpoint(listener.number) });
    return { record, sockets: { client, upstream: upstream.release() } };
  });
}
