// Puts one connection into the guard, says so, and waits to be killed; or, given a number of rounds, puts it in and
// takes it out that often.
import { NftGuard } from "../../native/guard/guard.ts";
import { elementKey } from "../../native/guard/ruleset.ts";

const [port = "1", rounds = "0"] = process.argv.slice(2);
const tuple = {
  local: { address: Uint8Array.of(192, 0, 2, 1), port: Number(port) },
  remote: { address: Uint8Array.of(192, 0, 2, 2), port: 80 },
};
for (let i = 0; i < Number(rounds); i++) {
  using guard = new NftGuard();
  guard.add([tuple]);
  if (!guard.list().some((other) => elementKey(other) === elementKey(tuple)))
    throw new Error("not in the guard");
  guard.remove([tuple]);
}
if (rounds === "0") {
  new NftGuard().add([tuple]);
  setInterval(() => {}, 60_000);
}
console.log("done");
