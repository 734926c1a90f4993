// Goal: numbers and layouts of native/abi/bpf.ts are those of the C header.
// Method: the compiler checks static assertions made from our constants; nothing is run.
import { spawnSync } from "node:child_process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as abi from "../../../native/abi/bpf.ts";

/** What says a constant that is no name of the header itself; the layout of a ring's record is the kernel's own. */
const EXPRESSIONS: Readonly<Record<string, string>> = {
  SYS_bpf: "__NR_bpf",
  BPF_INSN_SIZE: "sizeof(struct bpf_insn)",
};
const FIELDS = { ...abi.bpf_attr_map, ...abi.bpf_attr_prog, ...abi.bpf_attr_elem };

const layout = suite("abi: bpf.h");
const compiler = spawnSync("cc", ["--version"]);
const check = compiler.status === 0 ? layout : layout.skip;
check("given the C header (needs cc), then numbers and offsets agree", () => {
  const numbers = Object.entries(abi).filter(
    ([name, value]) => typeof value === "number" && name !== "BPF_ATTR_SIZE",
  );
  const said = [
    ...numbers.map(([name, value]) => [EXPRESSIONS[name] ?? name, value] as const),
    ...Object.entries(FIELDS).map(([name, at]) => [`offsetof(union bpf_attr, ${name})`, at] as const),
    ...Object.entries(abi.bpf_attr_link).map(
      ([name, at]) => [`offsetof(union bpf_attr, link_create.${name})`, at] as const,
    ),
    ...Object.entries(abi.bpf_sk_lookup).map(
      ([name, at]) => [`offsetof(struct bpf_sk_lookup, ${name})`, at] as const,
    ),
  ];
  assert.ok(said.length > 50);
  const source = [
    "#include <linux/bpf.h>",
    "#include <stddef.h>",
    "#include <asm/unistd.h>",
    ...said.map(([expression, value]) => `_Static_assert((${expression}) == ${value}, "${expression}");`),
  ];
  const { status, stderr } = spawnSync("cc", ["-fsyntax-only", "-x", "c", "-"], {
    input: source.join("\n"),
    encoding: "utf8",
  });
  assert.is(status, 0, stderr);
});

layout("given the attributes, then each field ends within what is passed", () => {
  const { map_name, ...ofMap } = abi.bpf_attr_map;
  const { prog_name, ...ofProg } = abi.bpf_attr_prog;
  const others = [abi.bpf_attr_elem, abi.bpf_attr_link].flatMap((fields) => Object.values(fields));
  for (const at of [...Object.values(ofMap), ...Object.values(ofProg), ...others])
    assert.ok(at + 8 <= abi.BPF_ATTR_SIZE);
  for (const at of [map_name, prog_name]) assert.ok(at + abi.BPF_OBJ_NAME_LEN <= abi.BPF_ATTR_SIZE);
});
layout.run();
