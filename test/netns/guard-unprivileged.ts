// Tries to guard a connection and prints the code of what that throws; guard.test.ts takes its capabilities.

import { NftGuard } from "../../native/guard/guard.ts";
import { GuardError } from "../../native/guard/guard-error.ts";

const end = { address: Uint8Array.of(127, 0, 0, 1), port: 1 };
try {
  new NftGuard({ library: process.argv[2] ?? "" }).add([{ local: end, remote: end }]);
  console.log("guarded");
} catch (error) {
  if (!(error instanceof GuardError)) throw error;
  console.log(error.code, error.message);
}
