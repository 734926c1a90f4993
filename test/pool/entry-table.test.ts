// Goal: an entry makes only the moves of its state diagram, whichever thread asks.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ENTRY, ENTRY_STATES, type EntryState, EntryTable } from "../../pool/entry-table.ts";

const MOVES: Readonly<Record<EntryState, readonly EntryState[]>> = {
  free: ["opening"],
  opening: ["ready", "resting"],
  ready: ["leased", "resting"],
  leased: ["finished"],
  finished: ["resting"],
  resting: ["free"],
};
const WAY: Readonly<Record<EntryState, readonly EntryState[]>> = {
  free: ["free"],
  opening: ["free", "opening"],
  ready: ["free", "opening", "ready"],
  leased: ["free", "opening", "ready", "leased"],
  finished: ["free", "opening", "ready", "leased", "finished"],
  resting: ["free", "opening", "resting"],
};

/** A table whose entry 1 is in this state. */
function tableWith(state: EntryState): EntryTable {
  const table = new EntryTable();
  const way = WAY[state];
  for (const [index, to] of way.entries()) if (index > 0) table.move(1, way[index - 1]!, to);
  return table;
}

const table = suite("entry table");

for (const from of ENTRY_STATES) {
  for (const to of ENTRY_STATES) {
    const allowed = MOVES[from].includes(to);
    table(`given ${from}, then ${to} is ${allowed ? "a move" : "refused"}`, () => {
      const entries = tableWith(from);
      if (allowed) {
        entries.move(1, from, to);
        assert.is(entries.state(1), to);
      } else {
        assert.throws(() => entries.move(1, from, to), /no move/);
        assert.is(entries.state(1), from);
      }
    });
  }
}

table("given another state than the caller believes, then the move throws and says which", () => {
  const entries = tableWith("leased");
  assert.throws(() => entries.move(1, "ready", "resting"), /leased, not ready, before resting/);
  assert.is(entries.state(1), "leased");
});

table("given another thread's view, then both see the same and neighbours are untouched", () => {
  const entries = tableWith("ready");
  const other = new EntryTable(entries.buffer);
  other.set(1, ENTRY.iss, 0xdeadbeef);
  other.source(1, 16).fill(0xff);
  other.setVerdict(1, "unborn");
  assert.is(entries.getU32(1, ENTRY.iss), 0xdeadbeef);
  assert.is(entries.verdict(1), "unborn");
  assert.equal([entries.state(0), entries.state(1), entries.state(2)], ["free", "ready", "free"]);
  for (const neighbour of [0, 2]) {
    for (const field of Object.values(ENTRY)) assert.is(entries.get(neighbour, field), 0);
  }
});

table("given the field offsets, then no two overlap and all fit", () => {
  const offsets = Object.values(ENTRY);
  assert.is(new Set(offsets).size, offsets.length);
  assert.ok(ENTRY.source + 4 <= 32);
  assert.ok(
    offsets.every((offset) => offset === ENTRY.source || offset < ENTRY.source || offset >= ENTRY.source + 4),
  );
});

// Two clients may use the same port towards one server: the address alone tells their half-opens apart.
for (const [family, ours, others] of [
  ["IPv4", [10, 0, 0, 1], [10, 0, 0, 2]],
  ["IPv6", [0xfd, ...Array(14).fill(0), 1], [0xfd, ...Array(14).fill(0), 2]],
] as const) {
  table(`given a SYN from an ${family} address, then it is from there and from no other`, () => {
    const entries = new EntryTable();
    entries.source(1, ours.length).set(ours);
    entries.source(2, others.length).set(others);
    assert.ok(entries.isFrom(1, Uint8Array.from(ours)));
    assert.not.ok(entries.isFrom(1, Uint8Array.from(others)));
    assert.ok(entries.isFrom(2, Uint8Array.from(others)));
  });
}

table.run();
