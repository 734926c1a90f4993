// Goal: live connections survive on disk: what was in flight and in the queues arrives once, in order, and their peers
// notice nothing. Method: two connections over the loopback of a namespace of our own, as one session's; frozen,
// dumped, written, closed, read, restored and resumed, while the peers write.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MSG_NOSIGNAL, MSG_WAITALL, SOCK_CLOEXEC } from "../../native/abi/socket.ts";
import { encodeSockaddr, formatAddress } from "../../native/address.ts";
import { check } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import { libc } from "../../native/libc.ts";
import { listenTcp, localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import { discard, dump, freeze, type Held, RepairKit, restore, resume } from "../../native/repair/repair.ts";
import { readImages, writeImages } from "../../proxy/checkpoint/images/image-file.ts";
import { sampleSession } from "../proxy/checkpoint/session-images.ts";
import { loopback } from "./half-open.ts";

const folder = mkdtempSync(join(tmpdir(), "accelproxy-image-restore-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

function connected(family: 4 | 6): { readonly ours: Fd; readonly theirs: Fd } {
  const address = formatAddress(loopback(family));
  using listener = listenTcp({ address, port: 0 }, 1);
  const sockaddr = encodeSockaddr({ address, port: localEndpoint(listener.number).port });
  const ours = newTcpSocket(family, 0);
  check(libc.connect(ours.number, sockaddr, sockaddr.length), "connect", {});
  const theirs = new Fd(check(libc.accept4(listener.number, null, null, SOCK_CLOEXEC), "accept4", {}));
  return { ours, theirs };
}

function write(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  assert.is(Number(libc.sendto(fd, bytes, bytes.length, MSG_NOSIGNAL, null, 0)), bytes.length);
}

function read(fd: number, length: number): string {
  const bytes = Buffer.alloc(length);
  const count = check(Number(libc.recv(fd, bytes, length, MSG_WAITALL)), "recv", {});
  return bytes.toString("latin1", 0, count);
}

/** All of them, or the first that is not. */
function held(results: readonly (Held | Error)[]): Held[] {
  return results.map((result) => {
    if (result instanceof Error) throw result;
    return result;
  });
}

const images = suite("images of live connections");

for (const family of [4, 6] as const) {
  images(`given a session over IPv${family} on disk, then both its connections go on`, () => {
    const [client, upstream] = [connected(family), connected(family)];
    using clientPeer = client.theirs;
    using upstreamPeer = upstream.theirs;
    write(clientPeer.number, "unread ");
    write(upstream.ours.number, "sent ");
    using kit = new RepairKit();
    const frozen = held(freeze(kit, [client.ours.number, upstream.ours.number]));
    write(clientPeer.number, "while away ");
    const [clientImage, upstreamImage] = frozen.map((one) => dump(one));
    const { record } = sampleSession(1);
    writeImages(folder, [{ record, client: clientImage!, upstream: upstreamImage! }]);
    client.ours.release();
    upstream.ours.release();
    discard(frozen);

    const [session] = readImages(folder).sessions;
    const back = held(restore(kit, [session!.client, session!.upstream!]));
    using newClient = new Fd(back[0]!.fd);
    using newUpstream = new Fd(back[1]!.fd);
    resume(kit, back);
    write(clientPeer.number, "after");
    write(newClient.number, "answer");
    write(newUpstream.number, "more");
    assert.is(read(newClient.number, 23), "unread while away after");
    assert.is(read(clientPeer.number, 6), "answer");
    assert.is(read(upstreamPeer.number, 9), "sent more");
  });
}

images.run();
