// Goal: the window scale our SYN announces is the kernel's. Method: its formula's values (tcp_select_initial_window);
// test/e2e/materialized.test.ts compares whole SYNs.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readSynOptions, receiveWindowScale } from "../../pool/syn-options.ts";

const options = suite("SYN options");

for (const [bytes, wscale] of [
  [0, 0],
  [65_535, 0],
  [65_536, 1],
  [131_071, 1],
  [131_072, 2],
  [212_992, 2],
  [6_291_456, 7],
  [33_554_432, 10],
  [2 ** 30, 14],
  [2 ** 31 - 1, 14],
] as const) {
  options(`given a receive buffer of up to ${bytes} bytes, then a shift of ${wscale}`, () => {
    assert.is(receiveWindowScale(bytes), wscale);
    if (wscale > 0 && wscale < 14) assert.ok(bytes / 2 ** wscale < 65_536);
  });
}

options("given this namespace, then what its sysctls say", () => {
  const sysctl = (name: string) => readFileSync(`/proc/sys/net/ipv4/${name}`, "utf8").trim();
  const { timestamps, sack, wscale } = readSynOptions();
  assert.equal([timestamps, sack], [sysctl("tcp_timestamps") !== "0", sysctl("tcp_sack") !== "0"]);
  assert.is(wscale !== undefined, sysctl("tcp_window_scaling") !== "0");
});

options.run();
