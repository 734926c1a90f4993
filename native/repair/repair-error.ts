/** What can go wrong with freezing, dumping and restoring, as users meet it. */
export type RepairErrorCode =
  | "ACCEL_REPAIR_STATE"
  | "ACCEL_REPAIR_UNSUPPORTED"
  | "ACCEL_REPAIR_DENIED"
  | "ACCEL_REPAIR_ADDRESS"
  | "ACCEL_REPAIR_FAILED";

/** A connection could not be frozen, dumped or restored. The message is one line that says why and what to do. */
export class RepairError extends Error {
  override readonly name = "RepairError";
  readonly code: RepairErrorCode;

  constructor(code: RepairErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
