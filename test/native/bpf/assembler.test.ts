// Goal: instructions become the bytes that the kernel's instruction set says.
// Method: known bytes of Documentation/bpf/standardization/instruction-set.rst and of compilers, by table.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BPF_ADD, BPF_FUNC_ktime_get_ns, BPF_JSET } from "../../../native/abi/bpf.ts";
import * as bpf from "../../../native/bpf/assembler.ts";

const assembler = suite("bpf assembler");
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

for (const [given, line, want] of [
  ["r0 = -1", bpf.mov(0, -1), "b7000000ffffffff"],
  ["r6 = r1", bpf.copy(6, 1), "bf16000000000000"],
  ["r3 += 48", bpf.alu(BPF_ADD, 3, 48), "0703000030000000"],
  ["r0 = byte 13 of the packet", bpf.loadByte(13), "300000000d000000"],
  ["*(u64 *)(r8 + 16) = r0", bpf.store(8, 16, 0), "7b08100000000000"],
  ["r2 = *(u32 *)(r1 + 60)", bpf.loadWord(2, 1, 60), "61123c0000000000"],
  ["*(u32 *)(r10 - 24) = r2", bpf.storeWord(10, -24, 2), "632ae8ff00000000"],
  ["lock *(u64 *)(r1 + 0) += r2", bpf.atomicAdd(1, 2), "db21000000000000"],
  ["call bpf_ktime_get_ns", bpf.call(BPF_FUNC_ktime_get_ns), "8500000005000000"],
  ["exit", bpf.exit, "9500000000000000"],
  ["r1 = map of descriptor 7", bpf.map(1, 7), "18110000070000000000000000000000"],
  ["r1 = value of descriptor 7", bpf.mapValue(1, 7), "18210000070000000000000000000000"],
] as const) {
  assembler(`given ${given}, then ${want}`, () => {
    assert.is(hex(bpf.assemble([line])), want);
  });
}

assembler("given labels ahead and behind, then distances in instructions, wide ones counted twice", () => {
  const bytes = bpf.assemble([
    "start",
    bpf.jumpIf(BPF_JSET, 0, 4, "end"),
    bpf.map(1, 3),
    bpf.jump("start"),
    "end",
    bpf.exit,
  ]);
  const distances = [0, 3].map((index) => Buffer.from(bytes).readInt16LE(index * 8 + 2));
  assert.equal(distances, [3, -4]);
  assert.is(bytes.length, 5 * 8);
});

assembler("given a label nobody set, then it throws", () => {
  assert.throws(() => bpf.assemble([bpf.jump("nowhere")]), /nowhere/);
});

assembler.run();
