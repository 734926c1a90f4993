/** What the proxy says itself when there is no answer of the upstream to pass on. */
import { type ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";

/** Answers a request with a status and a line for people. */
export function answer(response: ServerResponse, status: number, reason: string, requestId: string): void {
  const body = bodyOf(status, reason, requestId);
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(body),
    "x-request-id": requestId,
  });
  response.end(body);
}

/** Answers on a connection where nothing can be parsed any more, and ends it. */
export function answerRaw(socket: Socket, status: number, reason: string, requestId: string): void {
  const body = bodyOf(status, reason, requestId);
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Error"}`,
    "content-type: text/plain; charset=utf-8",
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${requestId}`,
    "connection: close",
  ];
  socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`, () => socket.destroy());
}

function bodyOf(status: number, reason: string, requestId: string): string {
  return `${status} ${STATUS_CODES[status] ?? "Error"}: ${reason}\nrequest ${requestId}\n`;
}
