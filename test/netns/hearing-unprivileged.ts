// Opens both ways of hearing and prints what it got; hearing.test.ts takes its capabilities.
import { SyscallError } from "../../native/errno.ts";
import { openHearing } from "../../pool/hearing.ts";

const silent = { debug: () => {}, info: () => {}, warn: () => {} };

const hearing = openHearing("auto", true, silent);
hearing.reserve().fd.close();
// A raw socket is opened for each family, the ring is there from the start.
console.log(`auto: ${hearing.add(4) ? "raw" : "bpf"}`);
hearing.close();
try {
  openHearing("bpf", true, silent).close();
  console.log("bpf: opened");
} catch (error) {
  if (!(error instanceof SyscallError)) throw error;
  console.log(`bpf: ${error.code}`);
}
