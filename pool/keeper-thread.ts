/**
 * The keeper's own thread. It sleeps in ppoll(2), where no JavaScript message reaches it: whoever sends one
 * wakes its eventfd as well.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { SyscallError } from "../native/errno.ts";
import type { PoolSpec } from "./destination.ts";
import { EntryTable } from "./entry-table.ts";
import { Gate, type GateShare } from "./gate.ts";
import type { HearingKind } from "./hearing.ts";
import { Keeper } from "./keeper.ts";
import { forwardingLogger, type LogMessage } from "./logger.ts";
import type { PoolShare } from "./pool-block.ts";

export interface KeeperThreadData {
  readonly table: SharedArrayBuffer;
  readonly signal: SharedArrayBuffer;
  readonly logLevel: string;
  readonly hearing: HearingKind;
  /** What sessions and reservations share. Absent: reservations take as many as the system has. */
  readonly descriptors: GateShare | undefined;
}

export type ToKeeper =
  | { readonly kind: "add"; readonly spec: PoolSpec }
  | { readonly kind: "remove"; readonly id: number }
  | { readonly kind: "stop" };

export type FromKeeper =
  | { readonly kind: "started"; readonly wakeFd: number }
  | { readonly kind: "added"; readonly share: PoolShare }
  | { readonly kind: "failed"; readonly id: number; readonly code: string; readonly message: string }
  | { readonly kind: "stopped" }
  | LogMessage;

function run(port: NonNullable<typeof parentPort>, data: KeeperThreadData): void {
  const tell = (message: FromKeeper) => port.postMessage(message);
  const log = forwardingLogger(data.logLevel, tell);
  const descriptors = data.descriptors && new Gate(data.descriptors);
  const keeper = new Keeper(new EntryTable(data.table), data.signal, log, data.hearing, descriptors);
  tell({ kind: "started", wakeFd: keeper.wakeFd });
  for (;;) {
    keeper.step();
    for (;;) {
      const received = receiveMessageOnPort(port) as { message: ToKeeper } | undefined;
      if (!received) break;
      const { message } = received;
      if (message.kind === "stop") {
        keeper.close();
        tell({ kind: "stopped" });
        port.close();
        return;
      }
      if (message.kind === "remove") keeper.removePool(message.id);
      else addPool(keeper, message.spec, tell);
    }
    keeper.wait();
  }
}

function addPool(keeper: Keeper, spec: PoolSpec, tell: (message: FromKeeper) => void): void {
  try {
    tell({ kind: "added", share: keeper.addPool(spec) });
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    tell({ kind: "failed", id: spec.id, code: error.code, message: error.message });
  }
}

if (parentPort) run(parentPort, workerData as KeeperThreadData);
