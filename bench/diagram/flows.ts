/** From two captures of one line to what happened on each connection, with the times at both ends. */
import { ACK, FIN, RST, SYN } from "../../native/wire/tcp.ts";
import { type CapturedPacket, readPcap } from "../lab/lab.ts";

/** A packet with the times it was at the near and at the far host's interface, ms since the flow's zero. */
export interface Arrow {
  readonly label: string;
  readonly toFar: boolean;
  readonly nearMs: number;
  readonly farMs: number;
  /** Before the request could be sent: part of a handshake made in advance. */
  readonly isEarly: boolean;
}

/** One connection up to its first response byte. */
export interface Flow {
  readonly isAccelerated: boolean;
  /** From zero, when the connection was wanted, to the first byte of the response at the near host. */
  readonly firstByteMs: number;
  /** What is drawn: the last refresh of a half-open, then everything from zero on. */
  readonly arrows: readonly Arrow[];
  /** When the half-open was opened, ms (negative), and how many SYNs it was kept with; of accelerated flows. */
  readonly openedMs: number;
  readonly syns: number;
}

type TcpPacket = CapturedPacket & { readonly tcp: NonNullable<CapturedPacket["tcp"]> };

/** The flows to `port` on which a request was answered, in the order of the requests. */
export function readFlows(nearPath: string, farPath: string, port: number): readonly Flow[] {
  const near = byClientPort(tcpPackets(nearPath), port);
  const far = byClientPort(tcpPackets(farPath), port);
  const flows: { atMs: number; flow: Flow }[] = [];
  for (const [client, packets] of near) {
    const request = packets.find(({ tcp }) => tcp.dport === port && payload(tcp) > 0);
    const response = packets.find(({ tcp }) => tcp.sport === port && payload(tcp) > 0);
    if (request === undefined || response === undefined) continue;
    flows.push({
      atMs: request.timeMs,
      flow: describe(packets, far.get(client) ?? [], port, request, response),
    });
  }
  return flows.sort((a, b) => a.atMs - b.atMs).map(({ flow }) => flow);
}

function describe(
  near: readonly TcpPacket[],
  far: readonly TcpPacket[],
  port: number,
  request: TcpPacket,
  response: TcpPacket,
): Flow {
  // A port serves one connection after the other: only SYNs of this one count.
  const iss = (request.tcp.seq - 1) >>> 0;
  const syns = near.filter(({ tcp }) => (tcp.flags & (SYN | ACK)) === SYN && tcp.seq === iss);
  const [first] = syns;
  const last = syns.findLast(({ timeMs }) => timeMs < request.timeMs);
  if (first === undefined || last === undefined) throw new Error("a flow without a SYN");
  // An ordinary client completes the handshake at once; here the request itself does.
  const isAccelerated =
    near.find(({ tcp }) => tcp.dport === port && (tcp.flags & ACK) !== 0 && tcp.seq === request.tcp.seq) ===
    request;
  const zeroMs = isAccelerated ? request.timeMs : first.timeMs;
  const arrows = near
    .filter(({ timeMs }) => timeMs >= last.timeMs && timeMs <= response.timeMs)
    .map((packet) => {
      const toFar = packet.tcp.dport === port;
      // A SYN that is sent again is the same packet: its copy is the nearest in time, on the right side.
      const other = toFar
        ? far.find((copy) => isSame(packet, copy) && copy.timeMs >= packet.timeMs)
        : far.findLast((copy) => isSame(packet, copy) && copy.timeMs <= packet.timeMs);
      if (other === undefined)
        throw new Error(`a packet did not cross the line: ${describeFlags(packet.tcp)}`);
      return {
        label: labelOf(packet, packet === request, packet === response),
        toFar,
        nearMs: packet.timeMs - zeroMs,
        farMs: other.timeMs - zeroMs,
        isEarly: packet.timeMs < zeroMs,
      };
    });
  return {
    isAccelerated,
    firstByteMs: response.timeMs - zeroMs,
    arrows,
    openedMs: first.timeMs - zeroMs,
    syns: syns.length,
  };
}

function tcpPackets(path: string): TcpPacket[] {
  return readPcap(path).filter((packet): packet is TcpPacket => packet.tcp !== undefined);
}

function byClientPort(packets: readonly TcpPacket[], port: number): Map<number, TcpPacket[]> {
  const groups = new Map<number, TcpPacket[]>();
  for (const packet of packets) {
    const client = clientPort(packet.tcp, port);
    const group = groups.get(client);
    if (group === undefined) groups.set(client, [packet]);
    else group.push(packet);
  }
  return groups;
}

const clientPort = (tcp: TcpPacket["tcp"], port: number): number =>
  tcp.sport === port ? tcp.dport : tcp.sport;
const payload = (tcp: TcpPacket["tcp"]): number => tcp.payloadEnd - tcp.payloadStart;

/** The same packet seen at the other end: only the hop limit may differ. */
function isSame(a: TcpPacket, b: TcpPacket): boolean {
  const [x, y] = [a.tcp, b.tcp];
  return (
    x.sport === y.sport &&
    x.seq === y.seq &&
    x.ack === y.ack &&
    x.flags === y.flags &&
    payload(x) === payload(y)
  );
}

function describeFlags({ flags }: TcpPacket["tcp"]): string {
  if ((flags & SYN) !== 0) return (flags & ACK) !== 0 ? "SYN-ACK" : "SYN";
  if ((flags & RST) !== 0) return "RST";
  return (flags & FIN) !== 0 ? "FIN" : "ACK";
}

/** "SYN", "ACK, GET /1000 (63 bytes)", "200 OK (1,110 bytes)": for data, what the first line of it says. */
function labelOf(packet: TcpPacket, isRequest: boolean, isResponse: boolean): string {
  if (!isRequest && !isResponse) return describeFlags(packet.tcp);
  const { payloadStart, payloadEnd } = packet.tcp;
  const line = Buffer.from(packet.bytes.subarray(payloadStart, payloadEnd))
    .toString("latin1")
    .split("\r\n", 1)[0];
  const size = `${(payloadEnd - payloadStart).toLocaleString("en")} bytes`;
  if (isRequest) return `ACK + ${line?.replace(/ HTTP\/1\.1$/, "")}, ${size}`;
  return `${line?.replace(/^HTTP\/1\.1 /, "")}, ${size}`;
}
