/** Which driver a worker runs on: io_uring where it can be had, else epoll, or the one the configuration names. */
import type { Config } from "../../config/schema.ts";
import { RingUnavailableError } from "../../native/ring/unavailable.ts";
import type { Driver } from "./driver.ts";
import { createEpollDriver } from "./epoll-driver.ts";
import { createIoUringDriver } from "./io-uring-driver.ts";
import * as limits from "./limits.ts";

export interface ChosenDriver {
  readonly driver: Driver;
  /** Why it is not the better one: what this kernel or container lacks, and the remedy. */
  readonly fallback: string | undefined;
}

/** Throws RingUnavailableError when io_uring is wanted and cannot be had. */
export function chooseDriver(wanted: Config["driver"]): ChosenDriver {
  if (wanted === "epoll") return { driver: onEpoll(), fallback: undefined };
  try {
    return { driver: onRing(), fallback: undefined };
  } catch (error) {
    if (!(error instanceof RingUnavailableError) || wanted === "io_uring") throw error;
    return { driver: onEpoll(), fallback: error.message };
  }
}

function onRing(): Driver {
  return createIoUringDriver({
    entries: limits.RING_ENTRIES,
    bufferCount: limits.BUFFER_COUNT,
    bufferKeep: limits.BUFFER_KEEP,
    bufferSize: limits.BUFFER_SIZE,
    bulk: limits.BULK_BUFFERS,
  });
}

function onEpoll(): Driver {
  const { count, size } = limits.BULK_BUFFERS;
  return createEpollDriver({
    bufferCount: limits.BUFFER_COUNT,
    bufferSize: limits.BUFFER_SIZE,
    bulk: { count, size },
  });
}
