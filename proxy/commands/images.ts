import { formatAddress, formatEndpoint } from "../../native/address.ts";
import type { TcpEnd, TcpImage } from "../../native/repair/image.ts";
import { readImages } from "../checkpoint/images/image-file.ts";
import type { SessionImage } from "../checkpoint/images/image-schema.ts";
import { AccelproxyError } from "../errors.ts";
import { type Column, table } from "../status-table.ts";
import { EXIT, type ExitCode, errorLine, type Output } from "./output.ts";

/** `accelproxy images DIR`: what a checkpoint holds, after checking all of it. Exit 1 when it cannot be restored. */
export function images(
  options: { readonly dir: string; readonly json: boolean },
  { stdout, stderr }: Output,
): ExitCode {
  try {
    const { path, header, sessions } = readImages(options.dir);
    const rows = sessions.map(summaryOf);
    const { program, host, kernel, createdAt } = header;
    if (options.json) {
      stdout(`${JSON.stringify({ file: path, ...header, sessions: rows }, undefined, 2)}\n`);
    } else {
      const count = `${rows.length} ${rows.length === 1 ? "session" : "sessions"}`;
      stdout(`${count} of ${createdAt}, by accelproxy ${program} on ${host} (Linux ${kernel})\n`);
      if (rows.length > 0) stdout(`\n${table(COLUMNS, rows)}`);
    }
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof AccelproxyError)) throw error;
    stderr(errorLine(error.message));
    return EXIT.failed;
  }
}

/** A session without its bytes. What `--json` prints; add to it freely. */
type Summary = ReturnType<typeof summaryOf>;

function summaryOf({ record, client, upstream }: SessionImage) {
  return {
    listener: record.listener,
    upstream: record.upstream,
    server: record.server ?? null,
    state: record.state,
    path: record.path,
    idleMs: record.idleMs,
    client: connectionOf(client),
    upstreamConnection: upstream === undefined ? null : connectionOf(upstream),
    /** In the proxy's own buffers, on their way to the upstream and to the client. */
    upBytes: record.up.length,
    downBytes: record.down.length,
  };
}

function connectionOf({ local, remote, live }: TcpImage) {
  return {
    local: endpointOf(local),
    remote: endpointOf(remote),
    state: live?.state ?? "ESTABLISHED",
    receivedBytes: live?.received.length ?? 0,
    sentBytes: live?.sent.length ?? 0,
    unsentBytes: live?.unsent.length ?? 0,
  };
}

const endpointOf = ({ address, port }: TcpEnd): string =>
  formatEndpoint({ address: formatAddress(address), port });

const COLUMNS: readonly Column<Summary>[] = [
  ["LISTENER", "left", (row) => row.listener],
  ["CLIENT", "left", (row) => row.client.remote],
  ["TCP", "left", (row) => row.client.state],
  ["UPSTREAM", "left", (row) => row.upstream],
  ["SERVER", "left", (row) => row.upstreamConnection?.remote ?? "-"],
  ["TCP", "left", (row) => row.upstreamConnection?.state ?? "-"],
  ["SESSION", "left", (row) => row.state],
  ["PATH", "left", (row) => row.path],
  ["BYTES", "right", (row) => String(bytesOf(row))],
];

function bytesOf({ client, upstreamConnection, upBytes, downBytes }: Summary): number {
  const queued = [client, upstreamConnection].map((connection) =>
    connection === null ? 0 : connection.receivedBytes + connection.sentBytes + connection.unsentBytes,
  );
  return upBytes + downBytes + queued[0]! + queued[1]!;
}
