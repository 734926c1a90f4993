import { suite } from "uvu";
import * as assert from "uvu/assert";
import { formatMetrics } from "../../../proxy/admin/metrics.ts";
import { fakeMetrics } from "./fake-proxy.ts";

/**
 * Goal: names, labels, types and values of the public interface, exactly.
 * Method: one snapshot, its text read back line by line as the exposition format says, compared with what is due.
 */

interface Exposition {
  readonly types: ReadonlyMap<string, string>;
  /** By `name{labels in order}`. */
  readonly values: ReadonlyMap<string, number>;
}

function parse(text: string): Exposition {
  const types = new Map<string, string>();
  const values = new Map<string, number>();
  assert.ok(text.endsWith("\n"));
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("# HELP ")) continue;
    const type = /^# TYPE (\S+) (\S+)$/.exec(line);
    if (type !== null) {
      assert.not(types.has(type[1]!), `${type[1]} twice`);
      types.set(type[1]!, type[2]!);
      continue;
    }
    const sample = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (sample === null) throw new Error(`not a sample: ${line}`);
    const labels = (sample[2] ?? "").split(",").sort().join(",");
    const key = labels === "" ? sample[1]! : `${sample[1]}{${labels}}`;
    assert.not(values.has(key), `${key} twice`);
    values.set(key, Number(sample[3]));
  }
  return { types, values };
}

const { types, values } = parse(await formatMetrics(fakeMetrics));
const server = `server="10.0.0.7:8080",upstream="origin"`;

const metrics = suite("metrics");
for (const [name, want] of [
  ["connections_total", "counter"],
  ["connections_active", "gauge"],
  ["bytes_total", "counter"],
  ["half_open", "gauge"],
  ["half_open_target", "gauge"],
  ["half_open_events_total", "counter"],
  ["materialize_seconds", "histogram"],
  ["first_byte_seconds", "histogram"],
] as const) {
  metrics(`accelproxy_${name} is a ${want}`, () => assert.is(types.get(`accelproxy_${name}`), want));
}

for (const [key, want] of [
  [`connections_total{listener="api",path="accelerated",upstream="origin"}`, 9_007_199_254_740_991],
  [`connections_total{listener="api",path="failed",upstream="origin"}`, 0],
  [`connections_active{listener="api"}`, 3],
  [`bytes_total{direction="upstream",listener="api"}`, 1_000],
  [`bytes_total{direction="downstream",listener="api"}`, 2_000],
  [`half_open{${server}}`, 4],
  [`half_open_target{${server}}`, 6],
  [`half_open_max{${server}}`, 32],
  [`half_open_ceiling{${server}}`, 16],
  [`half_open_paused{${server}}`, 1],
  [`half_open_cookies{${server}}`, 0],
  [`half_open_syns_total{${server}}`, 9],
  [`half_open_syn_rate_max{${server}}`, 200],
  [`connections_max{listener="api"}`, 10],
  [`log_lines_total{level="info"}`, 12],
  [`log_lines_total{level="warning"}`, 2],
  [`log_lines_total{level="error"}`, 1],
  ["reload_refused", 1],
  [`half_open_events_total{event="opened",${server}}`, 1],
  [`half_open_events_total{event="leased",${server}}`, 2],
  [`half_open_events_total{event="refreshed",${server}}`, 3],
  [`half_open_events_total{event="tainted",${server}}`, 4],
  [`half_open_events_total{event="vanished",${server}}`, 5],
  [`half_open_events_total{event="released",${server}}`, 6],
  [`half_open_events_total{event="refused",${server}}`, 7],
  [`half_open_events_total{event="cookie",${server}}`, 8],
  [`materialize_seconds_bucket{le="0.00001"}`, 5],
  [`materialize_seconds_bucket{le="0.0001"}`, 8],
  [`materialize_seconds_bucket{le="+Inf"}`, 10],
  ["materialize_seconds_sum", 0.00123],
  ["materialize_seconds_count", 10],
  [`first_byte_seconds_bucket{le="0.1",path="accelerated"}`, 7],
  [`first_byte_seconds_bucket{le="+Inf",path="accelerated"}`, 8],
  [`first_byte_seconds_sum{path="accelerated"}`, 0.9],
  [`first_byte_seconds_count{path="accelerated"}`, 8],
  [`first_byte_seconds_count{path="direct"}`, 0],
  [`first_byte_seconds_count{path="replayed"}`, 0],
  [`first_byte_seconds_count{path="failed"}`, 0],
] as const) {
  metrics(`${key} is ${want}`, () => assert.is(values.get(`accelproxy_${key}`), want));
}

metrics("every sample has a type and our prefix", () => {
  for (const key of values.keys()) {
    const name = key.replace(/\{.*/, "").replace(/_(bucket|sum|count)$/, "");
    assert.ok(types.has(name), name);
    assert.ok(name.startsWith("accelproxy_"), name);
  }
});

metrics("the process tells its CPU time, memory, start and descriptors", () => {
  assert.ok(values.get("accelproxy_process_cpu_seconds_total")! > 0);
  assert.ok(values.get("accelproxy_process_resident_memory_bytes")! > 1_000_000);
  assert.ok(Math.abs(values.get("accelproxy_process_start_time_seconds")! - Date.now() / 1000) < 60);
  assert.ok(values.get("accelproxy_process_open_fds")! >= 3);
  assert.ok(values.get("accelproxy_process_max_fds")! >= values.get("accelproxy_process_open_fds")!);
});
metrics.run();
