/**
 * The keeper's own thread. It sleeps in ppoll(2), where no JavaScript message reaches it: whoever sends one
 * wakes its eventfd as well.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { SyscallError } from "../native/errno.ts";
import { EntryTable } from "./entry-table.ts";
import { Gate, type GateShare } from "./gate.ts";
import type { KeeperRecord, KeeperSettlement } from "./handover.ts";
import type { HearingKind } from "./hearing.ts";
import { Keeper } from "./keeper.ts";
import type { KernelObjects } from "./kernel-objects.ts";
import { forwardingLogger, type LogMessage } from "./logger.ts";
import type { PoolShare } from "./pool-block.ts";
import type { PoolSpec } from "./pool-spec.ts";

export interface KeeperThreadData {
  readonly table: SharedArrayBuffer;
  readonly signal: SharedArrayBuffer;
  readonly logLevel: string;
  readonly hearing: HearingKind;
  /** What sessions and reservations share. Absent: reservations take as many as the system has. */
  readonly descriptors: GateShare | undefined;
  readonly secret: Uint8Array;
  readonly isHeld: boolean;
  readonly objects: KernelObjects | undefined;
  readonly mark: number | undefined;
}

export type ToKeeper =
  | { readonly kind: "add"; readonly spec: PoolSpec }
  | { readonly kind: "remove"; readonly id: number }
  | { readonly kind: "handOver" }
  | { readonly kind: "takeBack" }
  | { readonly kind: "adopt"; readonly record: KeeperRecord }
  | { readonly kind: "settle"; readonly settlement: KeeperSettlement }
  /** `pong` follows, from a thread that works. */
  | { readonly kind: "ping" }
  | { readonly kind: "stop" };

export type FromKeeper =
  | { readonly kind: "started"; readonly wakeFd: number }
  | { readonly kind: "added"; readonly share: PoolShare }
  | { readonly kind: "failed"; readonly id: number; readonly code: string; readonly message: string }
  | { readonly kind: "handedOver"; readonly record: KeeperRecord }
  | { readonly kind: "adopted" }
  | { readonly kind: "pong" }
  | { readonly kind: "stopped" }
  | LogMessage;

function run(port: NonNullable<typeof parentPort>, data: KeeperThreadData): void {
  const tell = (message: FromKeeper) => port.postMessage(message);
  const log = forwardingLogger(data.logLevel, tell);
  const descriptors = data.descriptors && new Gate(data.descriptors);
  const { hearing, secret, isHeld, objects, mark } = data;
  const options = { hearing, descriptors, secret, isHeld, objects, mark };
  const keeper = new Keeper(new EntryTable(data.table), data.signal, log, options);
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
      obey(keeper, message, tell);
    }
    keeper.wait();
  }
}

function obey(
  keeper: Keeper,
  message: Exclude<ToKeeper, { kind: "stop" }>,
  tell: (message: FromKeeper) => void,
): void {
  switch (message.kind) {
    case "add":
      addPool(keeper, message.spec, tell);
      break;
    case "remove":
      keeper.removePool(message.id);
      break;
    case "handOver":
      tell({ kind: "handedOver", record: keeper.handOver() });
      break;
    case "takeBack":
      keeper.takeBack();
      break;
    case "adopt":
      keeper.adopt(message.record);
      tell({ kind: "adopted" });
      break;
    case "settle":
      keeper.settle(message.settlement);
      break;
    case "ping":
      tell({ kind: "pong" });
      break;
    default: {
      const unreachable: never = message;
      throw new Error(`unknown message ${JSON.stringify(unreachable)}`);
    }
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
