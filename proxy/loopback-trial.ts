import { createServer, type Server, Socket } from "node:net";
import { SOCK_NONBLOCK } from "../native/abi/socket.ts";
import { SyscallError } from "../native/errno.ts";
import { HandshakeReceiver } from "../native/net/handshake-receiver.ts";
import { PollSet } from "../native/net/poll-set.ts";
import { RawSender } from "../native/net/raw-sender.ts";
import { probeRoute, reservePort } from "../native/net/tcp-socket.ts";
import { fromHandshake, type TcpEnd } from "../native/repair/image.ts";
import { restorePlan } from "../native/repair/plan.ts";
import { restoreBySyscalls } from "../native/repair/restore.ts";
import { ACK, RST, SYN, type TcpSegment } from "../native/wire/tcp.ts";
import { describeSyscallError } from "./privileges.ts";

/**
 * What acceleration does, once and from end to end, on 127.0.0.1: a SYN from a raw socket, its SYN-ACK, an
 * established socket by TCP_REPAIR, a request through it and the answer. What no single system call tells
 * (a firewall on the way, a kernel without TCP_REPAIR) shows here.
 */

const LOOPBACK = Uint8Array.of(127, 0, 0, 1);
const SYNACK_TIMEOUT_MS = 1_000;
const ANSWER_TIMEOUT_MS = 2_000;
const REQUEST = "accelproxy doctor";
const ISS = 0x5eed_0000;

/** The trial's result: milliseconds from the SYN to the answer, or the step that failed. */
export type TrialResult =
  | { readonly ok: true; readonly elapsedMs: number }
  | { readonly ok: false; readonly failure: string };

/** Runs the trial; takes a few milliseconds, seconds when packets are lost. Leaves nothing behind. Never throws. */
export async function runLoopbackTrial(): Promise<TrialResult> {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.pipe(socket);
  });
  try {
    const port = await listen(server);
    const startedMs = performance.now();
    const echoed = await request(materialize({ address: LOOPBACK, port }));
    if (echoed !== REQUEST) return { ok: false, failure: "the server's answer is not what was sent" };
    return { ok: true, elapsedMs: performance.now() - startedMs };
  } catch (error) {
    if (error instanceof SyscallError) return { ok: false, failure: describeSyscallError(error) };
    return { ok: false, failure: error instanceof Error ? error.message : String(error) };
  } finally {
    server.close();
  }
}

function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: "127.0.0.1", port: 0 }, () => {
      const bound = server.address();
      if (typeof bound === "object" && bound !== null) resolve(bound.port);
    });
  });
}

/** Opens half a connection, then makes it a socket. The reservation may go afterwards: the socket holds its port. */
function materialize(remote: TcpEnd): Socket {
  const { advmss, window, hopLimit } = probeRoute(LOOPBACK, remote.port);
  const reservation = reservePort(false);
  const local = { address: LOOPBACK, port: reservation.port };
  const segment = {
    src: LOOPBACK,
    dst: LOOPBACK,
    sport: local.port,
    dport: remote.port,
    ack: 0,
    ttl: hopLimit,
  };
  const sender = new RawSender(4);
  try {
    const syn = { ...segment, seq: ISS, flags: SYN, window, options: { mss: advmss } };
    const synack = exchange(() => sender.send(syn), local, remote);
    const plan = restorePlan(
      fromHandshake(
        {
          local,
          remote,
          iss: ISS,
          irs: synack.seq,
          advmss,
          synWindow: window,
          mss: synack.options.mss ?? 0,
          snd_wnd: synack.window,
          snd_wscale: undefined,
          rcv_wscale: 0,
          sackPermitted: false,
          tsval: undefined,
        },
        [],
      ),
    );
    try {
      return new Socket({ fd: restoreBySyscalls(plan, SOCK_NONBLOCK) });
    } catch (error) {
      sender.send({ ...segment, seq: ISS + 1, flags: RST, window: 0, options: {} });
      throw error;
    }
  } finally {
    sender.close();
    reservation.fd.close();
  }
}

/** Sends the SYN and waits for its SYN-ACK. */
function exchange(sendSyn: () => number, local: TcpEnd, remote: TcpEnd): TcpSegment {
  const receiver = new HandshakeReceiver(4);
  using poll = new PollSet([receiver.fd]);
  try {
    const errno = sendSyn();
    if (errno !== 0) throw new Error(`the SYN was not sent: error ${errno}`);
    const deadlineMs = performance.now() + SYNACK_TIMEOUT_MS;
    const answers: TcpSegment[] = [];
    for (;;) {
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) throw new Error("no SYN-ACK came back (a firewall on the loopback interface?)");
      poll.wait(leftMs);
      receiver.drain((_source, _destination, heard) => {
        if (heard.sport === remote.port && heard.dport === local.port && heard.ack === ISS + 1)
          answers.push(heard);
      });
      const [answer] = answers;
      if (answer === undefined) continue;
      if ((answer.flags & (SYN | ACK)) !== (SYN | ACK)) throw new Error("the SYN was refused");
      return answer;
    }
  } finally {
    receiver.close();
  }
}

/** What the server sends back on an established socket, which is closed afterwards. */
function request(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    const end = (finish: () => void) => {
      socket.destroy();
      finish();
    };
    let text = "";
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => {
      end(() => reject(new Error("no answer came through the restored socket")));
    });
    socket.once("error", (error) => end(() => reject(error)));
    socket.setEncoding("latin1");
    socket.on("data", (chunk: string) => {
      text += chunk;
      if (text.length >= REQUEST.length) end(() => resolve(text));
    });
    socket.resume();
    socket.write(REQUEST, "latin1");
  });
}
