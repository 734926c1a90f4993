/** Users of this host, as its name service has them (nsswitch.conf(5)). */
import koffi from "koffi";
import { libc, type PasswdEntry } from "./libc.ts";

export interface Account {
  readonly name: string;
  readonly uid: number;
  /** Of its own group. */
  readonly gid: number;
}

/** The user of this name; undefined when there is none. Source: getpwnam(3). */
export function findAccount(name: string): Account | undefined {
  const entry: unknown = libc.getpwnam(name);
  if (entry === null) return undefined;
  const { pw_uid, pw_gid } = koffi.decode(entry, "passwd") as PasswdEntry;
  return { name, uid: pw_uid, gid: pw_gid };
}
