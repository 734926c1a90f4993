/** What can go wrong with the guard, as users meet it. */
export type GuardErrorCode = "ACCEL_GUARD_MISSING" | "ACCEL_GUARD_DENIED" | "ACCEL_GUARD_FAILED";

/** The guard could not be read or changed. The message is one line that says why and what to do. */
export class GuardError extends Error {
  override readonly name = "GuardError";
  readonly code: GuardErrorCode;

  constructor(code: GuardErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
