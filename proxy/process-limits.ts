/** What the system lets this process have, and how its descriptors are shared out. */
import { readdirSync, readFileSync } from "node:fs";
import { StartError } from "./errors.ts";

export const DESCRIPTORS_PER_SESSION = 2;
/** What comes and goes beside sessions: 64 connections of the admin interface, names, files. */
const OTHERS = 96;
/** A listener has its socket, the duplicate its worker uses, and a successor while a reload moves it. */
const PER_LISTENER = 3;
/** The kernel's own limit of the limit is fs.nr_open, far below. */
const UNLIMITED = 2 ** 30;

/** A line of /proc/self/limits: numbers or "unlimited". */
export function readLimit(name: string): { readonly soft: string; readonly hard: string } {
  let text = "";
  try {
    text = readFileSync("/proc/self/limits", "latin1");
  } catch {
    // /proc is not mounted
  }
  const line = text.split("\n").find((candidate) => candidate.startsWith(name)) ?? "";
  const [soft = "unknown", hard = "unknown"] = line.slice(name.length).trim().split(/\s+/);
  return { soft: soft === "" ? "unknown" : soft, hard };
}

export interface Descriptors {
  /** The process's limit. */
  readonly openFiles: number;
  /** How many of them sessions and reservations share. */
  readonly shared: number;
}

/**
 * What is left when all threads run and `listeners` sockets are still to be opened; where the limit cannot be read,
 * as if there were none. Throws StartError ACCEL_DESCRIPTORS when not even one session is possible.
 */
export function shareDescriptors(listeners: number): Descriptors {
  const soft = Number(readLimit("Max open files").soft);
  if (!Number.isFinite(soft)) return { openFiles: UNLIMITED, shared: UNLIMITED };
  const taken = readdirSync("/proc/self/fd").length + PER_LISTENER * listeners + OTHERS;
  const openFiles = Math.min(soft, UNLIMITED);
  const shared = openFiles - taken;
  if (shared >= DESCRIPTORS_PER_SESSION) return { openFiles, shared };
  const remedy = `ulimit -n ${taken + 1_000}, or LimitNOFILE= in the systemd unit`;
  throw new StartError(
    "ACCEL_DESCRIPTORS",
    `a limit of ${openFiles} open files leaves none for sessions (${remedy})`,
  );
}

/** How many sessions that is at once; up to a sixth goes to ports of half-opens and of the sessions made of them. */
export function sessionsOf({ shared }: Descriptors, accelerate: boolean): number {
  return Math.floor((accelerate ? (5 * shared) / 6 : shared) / DESCRIPTORS_PER_SESSION);
}
