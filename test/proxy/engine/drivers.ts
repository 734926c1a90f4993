// The drivers under test, and io_uring as older kernels have it.
import type { RingFeature } from "../../../native/ring/setup.ts";
import type { Driver } from "../../../proxy/engine/driver.ts";
import { createEpollDriver } from "../../../proxy/engine/epoll-driver.ts";
import { createIoUringDriver } from "../../../proxy/engine/io-uring-driver.ts";

export interface Sizes {
  readonly entries: number;
  readonly bufferCount: number;
  readonly bufferSize: number;
}

const uring =
  (...without: RingFeature[]) =>
  (sizes: Sizes) =>
    createIoUringDriver({ ...sizes, without });

/** By position, so that a worker thread can be told which. */
export const DRIVERS: readonly (readonly [string, (sizes: Sizes) => Driver])[] = [
  ["epoll", createEpollDriver],
  ["io_uring", uring()],
  ["io_uring with most buffers in the stash", (sizes) => createIoUringDriver({ ...sizes, bufferKeep: 2 })],
  ["io_uring without NO_SQARRAY", uring("IORING_SETUP_NO_SQARRAY")],
  ["io_uring without DEFER_TASKRUN", uring("IORING_SETUP_DEFER_TASKRUN")],
  ["io_uring without SINGLE_ISSUER", uring("IORING_SETUP_SINGLE_ISSUER")],
  ["io_uring without CQSIZE", uring("IORING_SETUP_CQSIZE")],
  ["io_uring without SUBMIT_ALL", uring("IORING_SETUP_SUBMIT_ALL")],
  ["io_uring without CQE_SKIP", uring("IORING_FEAT_CQE_SKIP")],
  [
    "io_uring without any option",
    uring(
      "IORING_SETUP_NO_SQARRAY",
      "IORING_SETUP_DEFER_TASKRUN",
      "IORING_SETUP_SINGLE_ISSUER",
      "IORING_SETUP_COOP_TASKRUN",
      "IORING_SETUP_SUBMIT_ALL",
      "IORING_SETUP_CQSIZE",
      "IORING_FEAT_CQE_SKIP",
    ),
  ],
];
