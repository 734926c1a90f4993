/** The two connections of a session while they stand still. */
import { Fd } from "../../native/fd.ts";
import { type Held, RepairError } from "../../native/repair/repair.ts";
import { setLingerZero } from "../../native/sockopt.ts";

/** Each held, or why it is not. A session may have no upstream connection yet. */
export interface Pair {
  readonly client: Held | RepairError;
  readonly upstream: Held | RepairError | undefined;
}

/** Deals results out to sessions, whose connections they are in order; the upstream's where there is one. */
export function pairUp(hasUpstream: readonly boolean[], results: readonly (Held | RepairError)[]): Pair[] {
  let at = 0;
  return hasUpstream.map((has) => ({
    client: results[at++]!,
    upstream: has ? results[at++]! : undefined,
  }));
}

export function heldOf({ client, upstream }: Pair): Held[] {
  return [client, upstream].filter((one): one is Held => one !== undefined && !(one instanceof RepairError));
}

/** Why one of the two is not held. */
export function refusalOf({ client, upstream }: Pair): RepairError | undefined {
  return [client, upstream].find((one) => one instanceof RepairError);
}

/** Ends connections that run so that their peers see it. The descriptors are gone. */
export function resetAll(descriptors: readonly number[]): void {
  for (const number of descriptors) {
    setLingerZero(number);
    new Fd(number).close();
  }
}
