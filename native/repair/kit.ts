/** What the verbs of repair work with, made once: guard, raw sockets, and this host's defaults. */
import * as so from "../abi/socket.ts";
import { check, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { type Guard, NftGuard } from "../guard/guard.ts";
import { FEED_MARK, GUARD_MARK } from "../guard/ruleset.ts";
import { libc } from "../libc.ts";
import { RawSender } from "../net/raw-sender.ts";
import type { Quoted } from "../wire/icmp.ts";
import type { TcpPacket } from "../wire/packet.ts";
import { onTheWire } from "./held.ts";
import { optionOps } from "./ops.ts";
import { OPTION_ROWS, type OptionValue, optionRow } from "./options.ts";
import { applyOps, type Feed } from "./restore.ts";
import { readOption, readText } from "./socket-reader.ts";

type Options = readonly OptionValue[];

/** Of kernel memory for hints on their way: some 20,000 of them. */
const HINTS_ROOM = 16 << 20;

function bindToDevice(fd: number, device: string): void {
  applyOps(fd, optionOps([{ name: "SO_BINDTODEVICE", value: device }], "connect"));
}

const wireEnds = ({ src, dst }: Pick<TcpPacket, "src" | "dst">) => ({
  src: onTheWire(src),
  dst: onTheWire(dst),
});
const familyOf = (address: Uint8Array): 4 | 6 => (address.length === 4 ? 4 : 6);

/**
 * Belongs to the network namespace its maker was in. Owner of what it opened until close(); not of a guard that was
 * given. What it opens it opens when first needed.
 */
export class RepairKit implements Disposable {
  readonly guard: Guard;
  readonly #ownGuard: NftGuard | undefined;
  readonly #senders = new Map<string, RawSender>();
  readonly #defaults = new Map<4 | 6, ReadonlyMap<string, OptionValue["value"]>>();
  /** By the list that an image has; many images have the same. */
  readonly #needed = { 4: new WeakMap<Options, Options>(), 6: new WeakMap<Options, Options>() };

  /** Throws GuardError when `guard` is not given and nftables are not to be had. */
  constructor(guard?: Guard) {
    this.#ownGuard = guard === undefined ? new NftGuard() : undefined;
    this.guard = guard ?? this.#ownGuard!;
  }

  /**
   * Lets a segment arrive at the socket `fd` as if from its peer. It comes by the loopback interface, so that a
   * socket bound to another one is unbound meanwhile. Throws SyscallError, EPERM without CAP_NET_RAW.
   */
  readonly feed: Feed = (fd, packet, payload) => {
    const device = readText(fd, so.SOL_SOCKET, so.SO_BINDTODEVICE);
    if (device !== "") bindToDevice(fd, "");
    const ends = wireEnds(packet);
    const errno = this.#sender("feeds", ends).send({ ...packet, ...ends }, payload);
    if (errno !== 0) throw new SyscallError("sendto", errno, { ...ends });
    if (device !== "") bindToDevice(fd, device);
  };

  /**
   * Sends a segment between the addresses of a socket, mapped ones too. Whether it leaves is not told: what is lost
   * here, as on its way, the peer's timer makes good. Throws SyscallError EPERM without CAP_NET_RAW.
   */
  hint(packet: TcpPacket): void {
    const ends = wireEnds(packet);
    this.#sender("hints", ends).send({ ...packet, ...ends });
  }

  /** Tells the sender of a segment that it does not arrive. As hint(). */
  hintUnreachable(quoted: Quoted): void {
    const ends = wireEnds(quoted);
    this.#sender("hints", ends).sendUnreachable({ ...quoted, ...ends });
  }

  /**
   * A raw socket whose packets pass the guard. Those of `hints` wait for an interface, many at a time when thousands are
   * resumed; what is fed arrives within the call, and must not wait behind them.
   */
  #sender(use: "feeds" | "hints", { src }: { readonly src: Uint8Array }): RawSender {
    const family = familyOf(src);
    const key = `${use} ${family}`;
    const have = this.#senders.get(key);
    if (have !== undefined) return have;
    const sender = new RawSender(family, use === "feeds" ? FEED_MARK : GUARD_MARK);
    if (use === "hints") sender.makeRoom(HINTS_ROOM);
    this.#senders.set(key, sender);
    return sender;
  }

  /** The options a new TCP socket of this host has. */
  defaults(family: 4 | 6): ReadonlyMap<string, OptionValue["value"]> {
    const have = this.#defaults.get(family);
    if (have !== undefined) return have;
    const domain = family === 4 ? so.AF_INET : so.AF_INET6;
    using fd = new Fd(check(libc.socket(domain, so.SOCK_STREAM | so.SOCK_CLOEXEC, 0), "socket", { family }));
    const rows = OPTION_ROWS.filter(({ ip }) => ip !== 6 || family === 6);
    const values = new Map<string, OptionValue["value"]>();
    for (const row of rows) values.set(row.name, readOption(fd.number, row));
    this.#defaults.set(family, values);
    return values;
  }

  /** What of an image's options restoring has to set: without those that every new socket of this host has anyway. */
  needed(family: 4 | 6, options: Options): Options {
    const have = this.#needed[family].get(options);
    if (have !== undefined) return have;
    const defaults = this.defaults(family);
    const needed: OptionValue[] = [];
    for (const option of options) {
      const { changes, follows, moment } = optionRow(option.name) ?? {};
      if (moment === "repair") continue; // resume() sets them
      const isDefault = !changes && option.value === defaults.get(option.name);
      if (!isDefault || needed.some(({ name }) => name === follows)) needed.push(option);
    }
    this.#needed[family].set(options, needed);
    return needed;
  }

  close(): void {
    for (const sender of this.#senders.values()) sender.close();
    this.#senders.clear();
    this.#ownGuard?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
