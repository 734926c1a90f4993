import type { DirectionCounters } from "./direction.ts";
import type { FilterSpec, RuleCounters } from "./filter.ts";
import type { ImpairmentSettings } from "./impairment.ts";
import type { LabErrorCode } from "./lab-error.ts";
import type { LabPlan } from "./topology.ts";

/**
 * What the owner of a lab asks of its delay line: one JSON object a line over a socket pair, answered in order.
 * The end of the socket, however it came about, ends the lab.
 */
export type Request =
  | { readonly op: "open"; readonly plan: LabPlan }
  | {
      readonly op: "set";
      readonly link: number;
      readonly from: string | undefined;
      readonly change: Partial<ImpairmentSettings>;
    }
  | { readonly op: "filter"; readonly link: number; readonly filter: FilterSpec | undefined }
  | { readonly op: "counters"; readonly link: number }
  /** Capture files by host; an empty object ends the captures. */
  | { readonly op: "record"; readonly link: number; readonly paths: Readonly<Record<string, string>> }
  | { readonly op: "close" };

export interface Opened {
  /** By host: the descriptor of its namespace in the delay line's process. */
  readonly namespaces: Readonly<Record<string, number>>;
}

export interface LinkCounters {
  /** By the host that sends. */
  readonly from: Readonly<Record<string, DirectionCounters>>;
  readonly rules: Readonly<Record<string, RuleCounters>>;
  /** The filter function's state. */
  readonly state: Readonly<Record<string, unknown>>;
}

export type Reply =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly code: LabErrorCode; readonly message: string };

/** Descriptor of the socket in the delay line's process. */
export const CONTROL_DESCRIPTOR = 3;
