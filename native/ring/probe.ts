import { BufferRing } from "./buffers.ts";
import { Ring } from "./ring.ts";
import {
  acceptsFlag,
  RING_FEATURE_NAMES,
  RING_FEATURES,
  type RingFeature,
  setupRing,
  supportedFeatures,
} from "./setup.ts";
import { RingUnavailableError } from "./unavailable.ts";

/** What io_uring can do here. */
export interface RingProbe {
  /** The io_uring driver works on this host, for this user. */
  readonly available: boolean;
  /** Why not, one line each, e.g. "IORING_OP_RECV (Linux 5.6)"; empty when available. */
  readonly missing: readonly string[];
  /** What to do about it; undefined when available. */
  readonly remedy: string | undefined;
  /** Set-up flags by name; an absent one costs speed, never function. */
  readonly flags: Readonly<Record<string, boolean>>;
  /** IORING_FEAT_* and IORING_REGISTER_* by name. */
  readonly features: Readonly<Record<string, boolean>>;
  readonly ops: Readonly<Record<string, boolean>>;
}

/**
 * Tries io_uring out, leaving nothing behind. `without` names features to take as absent. Throws only
 * what is no verdict on io_uring (a bug).
 */
export function probeRing(without: readonly RingFeature[] = []): RingProbe {
  const supported = new Set<RingFeature>();
  let failure: RingUnavailableError | undefined;
  try {
    tryOut(without, supported);
  } catch (error) {
    if (!(error instanceof RingUnavailableError)) throw error;
    failure = error;
  }
  const named = (...kinds: readonly string[]) =>
    Object.fromEntries(
      RING_FEATURE_NAMES.filter((name) => kinds.includes(RING_FEATURES[name].kind)).map((name) => [
        name,
        supported.has(name),
      ]),
    );
  return {
    available: failure === undefined,
    missing: failure?.missing ?? [],
    remedy: failure?.remedy,
    flags: named("flag"),
    features: named("feature", "register"),
    ops: named("operation"),
  };
}

/** Fills `supported` as far as it gets, then throws RingUnavailableError if that is not enough. */
function tryOut(without: readonly RingFeature[], supported: Set<RingFeature>): void {
  const left = new Set(without);
  const setup = setupRing(1, 2, left);
  for (const name of supportedFeatures(setup, left)) supported.add(name);
  setup.fd.close();
  // A ring chooses among flags (COOP_TASKRUN or DEFER_TASKRUN); the report names all the kernel has.
  for (const name of RING_FEATURE_NAMES) {
    if (RING_FEATURES[name].kind === "flag" && !left.has(name) && acceptsFlag(name)) supported.add(name);
  }
  const ring = new Ring({ entries: 8, without });
  try {
    supported.delete("IORING_REGISTER_PBUF_RING");
    const buffers = new BufferRing(ring.fd, 0, 1, 4096);
    supported.add("IORING_REGISTER_PBUF_RING");
    ring.close();
    buffers.close();
  } catch (error) {
    ring.close();
    throw error;
  }
}
