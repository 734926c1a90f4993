// Goal: socket options do what their names say, where a name of ours promises more than the kernel's.
// Method: two sockets of this kernel over the loopback.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { EAGAIN } from "../../native/abi/errno.ts";
import { MSG_NOSIGNAL, SOCK_NONBLOCK } from "../../native/abi/socket.ts";
import { encodeSockaddr } from "../../native/address.ts";
import { check, lastErrno } from "../../native/errno.ts";
import { libc } from "../../native/libc.ts";
import { listenTcp, localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import { deferHandshakeAck, getTcpInfo } from "../../native/sockopt.ts";

const ACK_AND_DATA = { ordinary: 3, deferred: 2 };
const test = suite("sockopt");

/** Segments that a client sends to connect and to say one word. */
function segmentsSent(isDeferred: boolean): number {
  using listener = listenTcp({ address: "127.0.0.1", port: 0 }, 1);
  using client = newTcpSocket(4, 0);
  if (isDeferred) deferHandshakeAck(client.number);
  const address = encodeSockaddr(localEndpoint(listener.number));
  check(libc.connect(client.number, address, address.length), "connect", {});
  const word = Buffer.from("word");
  assert.is(Number(libc.sendto(client.number, word, word.length, MSG_NOSIGNAL, null, 0)), word.length);
  const { segsOut } = getTcpInfo(client.number);
  const server = libc.accept4(listener.number, null, null, SOCK_NONBLOCK);
  assert.not(server < 0 && lastErrno() === EAGAIN, "the server has no connection");
  assert.is(Number(libc.recv(server, word, word.length, 0)), 4);
  assert.is(word.toString(), "word");
  libc.close(server);
  return segsOut;
}

test("given an ordinary connect, then the handshake's ACK leaves alone", () => {
  assert.is(segmentsSent(false), ACK_AND_DATA.ordinary);
});

test("given a deferred ACK, then the data carries it", () => {
  assert.is(segmentsSent(true), ACK_AND_DATA.deferred);
});

test.run();
