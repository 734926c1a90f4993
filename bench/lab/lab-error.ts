/**
 * What goes wrong in the lab. Codes:
 * - `ACCEL_LAB_UNAVAILABLE`: this machine or user cannot run one; the message says what to do about it.
 * - `ACCEL_LAB_USAGE`: a request that makes no sense, such as a host that does not exist.
 * - `ACCEL_LAB_FAILED`: the delay line ended, or a filter threw.
 */
export class LabError extends Error {
  override readonly name = "LabError";
  readonly code: LabErrorCode;

  constructor(code: LabErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export type LabErrorCode = "ACCEL_LAB_UNAVAILABLE" | "ACCEL_LAB_USAGE" | "ACCEL_LAB_FAILED";
