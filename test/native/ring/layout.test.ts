// Goal: the constants and layouts of native/abi/io_uring.ts are those of the C header.
// Method: a C program prints them. Skipped without a C compiler or with a header older than Linux 6.6.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as abi from "../../../native/abi/io_uring.ts";

/** Not yet in the header of Debian 12, which is of Linux 6.1. */
const NEWER: ReadonlySet<string> = new Set(["IORING_OP_BIND", "IORING_SETUP_NO_SQARRAY"]);

/** C expressions with our value; offsets in bytes. */
const EXPECTED: Record<string, number> = {
  "sizeof(struct io_uring_params)": abi.IO_URING_PARAMS_SIZE,
  "sizeof(struct io_uring_sqe)": abi.IO_URING_SQE_SIZE,
  "sizeof(struct io_uring_cqe)": abi.IO_URING_CQE_SIZE,
  "sizeof(struct io_uring_buf)": abi.IO_URING_BUF_SIZE,
  "sizeof(struct io_uring_buf_reg)": abi.IO_URING_BUF_REG_SIZE,
  "sizeof(struct io_uring_getevents_arg)": abi.IO_URING_GETEVENTS_ARG_SIZE,
  "sizeof(struct __kernel_timespec)": abi.__KERNEL_TIMESPEC_SIZE,
  "sizeof(struct io_uring_probe)": abi.IO_URING_PROBE_SIZE,
  "sizeof(struct io_uring_probe_op)": abi.IO_URING_PROBE_OP_SIZE,
  "offsetof(struct io_uring_buf_ring, tail)": abi.IO_URING_BUF_RING_TAIL,
  "offsetof(struct io_uring_sqe, flags) * 8": abi.SQE_FLAGS_SHIFT,
  "offsetof(struct io_uring_sqe, ioprio) * 8": abi.SQE_IOPRIO_SHIFT,
  "offsetof(struct io_uring_sqe, msg_flags)": abi.io_uring_sqe.op_flags * 4,
  "offsetof(struct io_uring_sqe, accept_flags)": abi.io_uring_sqe.op_flags * 4,
  "offsetof(struct io_uring_sqe, cancel_flags)": abi.io_uring_sqe.op_flags * 4,
};
/** Where fields lie that the header of Debian 12 does not name, by their neighbours in the same unions. */
const OLDER: Readonly<Record<string, string>> = {
  level: "offsetof(struct io_uring_sqe, addr) + 0",
  optname: "offsetof(struct io_uring_sqe, addr) + 4",
  optlen: "offsetof(struct io_uring_sqe, splice_fd_in) + 0",
  optval: "offsetof(struct io_uring_sqe, addr3) + 0",
};
const words = { io_uring_sqe: abi.io_uring_sqe, io_uring_cqe: abi.io_uring_cqe };
for (const [struct, fields] of Object.entries(words)) {
  for (const [field, word] of Object.entries(fields)) {
    if (field === "op_flags") continue;
    EXPECTED[OLDER[field] ?? `offsetof(struct ${struct}, ${field})`] = word * 4;
  }
}
for (const [struct, fields] of Object.entries({
  io_uring_params: abi.io_uring_params,
  io_sqring_offsets: abi.io_sqring_offsets,
  io_cqring_offsets: abi.io_cqring_offsets,
  io_uring_buf: abi.io_uring_buf,
  io_uring_buf_reg: abi.io_uring_buf_reg,
  io_uring_getevents_arg: abi.io_uring_getevents_arg,
  io_uring_probe: abi.io_uring_probe,
  io_uring_probe_op: abi.io_uring_probe_op,
})) {
  for (const [field, offset] of Object.entries(fields)) {
    EXPECTED[`offsetof(struct ${struct}, ${field})`] = offset;
  }
}
const verbatim =
  /^(IORING_(SETUP|FEAT|OFF|ENTER|REGISTER|OP|RECVSEND|ACCEPT|ASYNC|CQE_F|CQE_BUFFER)_|IOSQE_|IO_URING_OP_)/;
for (const [name, value] of Object.entries(abi)) {
  if (typeof value === "number" && verbatim.test(name) && !NEWER.has(name)) EXPECTED[name] = value;
}
EXPECTED.__NR_io_uring_setup = abi.SYS_io_uring_setup;
EXPECTED.__NR_io_uring_enter = abi.SYS_io_uring_enter;
EXPECTED.__NR_io_uring_register = abi.SYS_io_uring_register;

/** Their values in C, or undefined without a C compiler. */
function valuesInC(): Map<string, number> | undefined {
  const directory = mkdtempSync(join(tmpdir(), "layout-"));
  try {
    const print = Object.keys(EXPECTED).map((expression) => `printf("%lld\\n", (long long)(${expression}));`);
    const source = `#include <linux/io_uring.h>
#include <stddef.h>
#include <stdio.h>
#include <asm/unistd.h>
int main(void) { ${print.join("\n")} return 0; }`;
    writeFileSync(join(directory, "layout.c"), source);
    const compile = spawnSync("cc", ["-o", join(directory, "layout"), join(directory, "layout.c")]);
    if (compile.error !== undefined) return undefined;
    if (compile.status !== 0) throw new Error(String(compile.stderr));
    const lines = spawnSync(join(directory, "layout"), { encoding: "utf8" }).stdout.trim().split("\n");
    return new Map(Object.keys(EXPECTED).map((expression, i) => [expression, Number(lines[i])]));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const layout = suite("abi: io_uring.h");
const inC = valuesInC();
if (inC === undefined) {
  // The numbers cannot be compared with the header's then. With CI=true a skipped test is a failure.
  layout.skip("needs a C compiler", () => {});
} else {
  for (const [expression, ours] of Object.entries(EXPECTED)) {
    layout(`given ${expression}, then ${ours}`, () => assert.is(ours, inC.get(expression)));
  }
}
layout.run();
