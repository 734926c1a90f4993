/**
 * eBPF instructions as data, and their bytes. A program is a list of instructions and labels, which stand for the
 * place of the next instruction. Read Documentation/bpf/standardization/instruction-set.rst first.
 */
import * as abi from "../abi/bpf.ts";

/** r0 holds results, r1 to r5 arguments, which calls overwrite; r6 to r9 survive calls; r10 is the frame. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

/** One struct bpf_insn; `target` names the label a jump goes to. */
export interface Instruction {
  readonly code: number;
  readonly dst?: Register;
  readonly src?: number;
  readonly off?: number;
  readonly imm?: number;
  readonly target?: string;
}

/** An instruction, several, or the name of the place where the next one is. */
export type Line = Instruction | readonly Instruction[] | string;

type Alu = typeof abi.BPF_ADD | typeof abi.BPF_AND | typeof abi.BPF_RSH | typeof abi.BPF_MOV;
type Condition = typeof abi.BPF_JEQ | typeof abi.BPF_JGT | typeof abi.BPF_JSET | typeof abi.BPF_JLT;

/** dst = dst `operation` imm, in 64 bits; imm is sign-extended. */
export const alu = (operation: Alu, dst: Register, imm: number): Instruction => ({
  code: abi.BPF_ALU64 | operation | abi.BPF_K,
  dst,
  imm,
});

export const mov = (dst: Register, imm: number): Instruction => alu(abi.BPF_MOV, dst, imm);

/** dst = src. */
export const copy = (dst: Register, src: Register): Instruction => ({
  code: abi.BPF_ALU64 | abi.BPF_MOV | abi.BPF_X,
  dst,
  src,
});

/** r0 = the packet's byte at imm. r6 must be the context; ends the program with 0 past the packet's end. */
export const loadByte = (imm: number): Instruction => ({ code: abi.BPF_LD | abi.BPF_ABS | abi.BPF_B, imm });

/** dst = the 32 bits at src + off. */
export const loadWord = (dst: Register, src: Register, off: number): Instruction => ({
  code: abi.BPF_LDX | abi.BPF_MEM | abi.BPF_W,
  dst,
  src,
  off,
});

/** 32 bits at dst + off = src. */
export const storeWord = (dst: Register, off: number, src: Register): Instruction => ({
  code: abi.BPF_STX | abi.BPF_MEM | abi.BPF_W,
  dst,
  off,
  src,
});

/** 64 bits at dst + off = src. */
export const store = (dst: Register, off: number, src: Register): Instruction => ({
  code: abi.BPF_STX | abi.BPF_MEM | abi.BPF_DW,
  dst,
  off,
  src,
});

/** 64 bits at dst += src, as one. */
export const atomicAdd = (dst: Register, src: Register): Instruction => ({
  code: abi.BPF_STX | abi.BPF_ATOMIC | abi.BPF_DW,
  dst,
  src,
  imm: abi.BPF_ADD,
});

/** To the label if dst `condition` imm, unsigned. */
export const jumpIf = (condition: Condition, dst: Register, imm: number, target: string): Instruction => ({
  code: abi.BPF_JMP | condition | abi.BPF_K,
  dst,
  imm,
  target,
});

export const jump = (target: string): Instruction => ({ code: abi.BPF_JMP | abi.BPF_JA, target });

/** r0 = the helper's result of r1 to r5. */
export const call = (helper: number): Instruction => ({ code: abi.BPF_JMP | abi.BPF_CALL, imm: helper });

/** Ends the program with r0. */
export const exit: Instruction = { code: abi.BPF_JMP | abi.BPF_EXIT };

/** dst = the map of a descriptor, for helpers. */
export const map = (dst: Register, fd: number): readonly Instruction[] =>
  wide(dst, abi.BPF_PSEUDO_MAP_FD, fd);

/** dst = the address of an array map's first value. */
export const mapValue = (dst: Register, fd: number): readonly Instruction[] =>
  wide(dst, abi.BPF_PSEUDO_MAP_VALUE, fd);

/** A load of 64 bits takes two instructions. */
function wide(dst: Register, src: number, imm: number): readonly Instruction[] {
  return [{ code: abi.BPF_LD | abi.BPF_IMM | abi.BPF_DW, dst, src, imm }, { code: 0 }];
}

/** The program as the kernel takes it. Throws for a label nobody set: our bug. */
export function assemble(lines: readonly Line[]): Uint8Array {
  const places = new Map<string, number>();
  const instructions: Instruction[] = [];
  for (const line of lines) {
    if (typeof line === "string") places.set(line, instructions.length);
    else instructions.push(...[line].flat());
  }
  const view = new DataView(new ArrayBuffer(instructions.length * abi.BPF_INSN_SIZE));
  for (const [index, { code, dst = 0, src = 0, off = 0, imm = 0, target }] of instructions.entries()) {
    const at = index * abi.BPF_INSN_SIZE;
    view.setUint8(at, code);
    view.setUint8(at + 1, dst | (src << 4));
    view.setInt16(at + 2, target === undefined ? off : distance(places, target, index), true);
    view.setInt32(at + 4, imm, true);
  }
  return new Uint8Array(view.buffer);
}

/** Jumps count from the instruction after them. */
function distance(places: ReadonlyMap<string, number>, target: string, from: number): number {
  const place = places.get(target);
  if (place === undefined) throw new Error(`bpf: no label ${target}`);
  return place - from - 1;
}
