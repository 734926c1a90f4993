// Goal: what the kernel refuses comes back as an error that says why.
// Method: bad maps, programs and sockets offered to this kernel.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BPF_MAP_TYPE_RINGBUF } from "../../native/abi/bpf.ts";
import { assemble, copy, exit, mov } from "../../native/bpf/assembler.ts";
import { attachProgram, createMap, loadProgram, SOCKET_FILTER } from "../../native/bpf/objects.ts";
import { SyscallError } from "../../native/errno.ts";
import { EventFd } from "../../native/eventfd.ts";
import { newTcpSocket } from "../../native/net/tcp-socket.ts";
import { onlyFor } from "./half-open.ts";

const objects = suite("bpf objects");
const test = onlyFor("bpf", objects);

/** The error a call throws. */
function refusal(attempt: () => void): SyscallError {
  try {
    attempt();
  } catch (error) {
    if (error instanceof SyscallError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

test("given a program that reads a register nobody set, then EACCES and the verifier's words", () => {
  const { code, args } = refusal(() => loadProgram("bad", SOCKET_FILTER, assemble([copy(0, 3), exit])));
  assert.is(code, "EACCES");
  assert.match(String(args.log), "R3 !read_ok");
});

test("given a ring that is no power of two, then EINVAL with what was asked for", () => {
  const spec = { type: BPF_MAP_TYPE_RINGBUF, keySize: 0, valueSize: 0, entries: 5_000, flags: 0 };
  const { code, args } = refusal(() => createMap({ name: "odd", ...spec }));
  assert.equal([code, args.command, args.entries], ["EINVAL", "BPF_MAP_CREATE", 5_000]);
});

test("given a good program, then a socket takes it and needs its descriptor no more", () => {
  using socket = newTcpSocket(4, 0);
  const program = loadProgram("pass", SOCKET_FILTER, assemble([mov(0, -1), exit]));
  attachProgram(socket.number, program);
  program.close();
});

test("given a descriptor that is no program, then EINVAL names the option", () => {
  using socket = newTcpSocket(4, 0);
  const event = new EventFd();
  const { code, args } = refusal(() => attachProgram(socket.number, event.fd));
  event.close();
  assert.equal([code, args.option], ["EINVAL", "SO_ATTACH_BPF"]);
});

objects.run();
