import * as z from "zod";
import { bad, type Fault, good, nearest, type Parsed, show } from "./problems.ts";

// A path that some server takes to be too long would look like a server that is down.
const requestPathCharsMax = 1024;

/**
 * A zod schema for one value. `read` sees what stands in the file; its fault travels in the params of a
 * custom issue. An absent key without a default is a fault of its own: `remedy` says what to write.
 */
export function field<T>(read: (input: unknown) => Parsed<T>, remedy: string) {
  return z.unknown().transform((input, ctx): T => {
    const parsed: Parsed<T> =
      input === undefined ? { ok: false, fault: { kind: "missing", remedy } } : read(input);
    if (parsed.ok) return parsed.value;
    const fault = input === null ? emptyFault(remedy) : parsed.fault;
    ctx.addIssue({ code: "custom", message: fault.kind, params: { fault } });
    return z.NEVER;
  });
}

/** The fault of a key that stands there without a value. */
export function emptyFault(remedy: string): Fault {
  return { kind: "bad", problem: "the value is empty", remedy };
}

/** The fault that field() attached to an issue, if this issue is one of its own. */
export function faultOf(issue: z.core.$ZodIssue): Fault | undefined {
  if (issue.code !== "custom") return undefined;
  const fault: unknown = issue.params?.fault;
  return fault as Fault | undefined;
}

/** One word of a list. */
export function choice<const T extends string>(words: readonly T[]) {
  const write = words.length === 1 ? `write ${words[0]}` : `write one of ${words.join(", ")}`;
  return field<T>((input) => {
    const word = words.find((candidate) => candidate === input);
    if (word !== undefined) return good(word);
    if (typeof input !== "string") return bad(`${show(input)} is not one of ${words.join(", ")}`, write);
    const near = nearest(input, words);
    return bad(`${show(input)} is not known`, near === undefined ? write : `did you mean ${near}?`);
  }, write);
}

/** What a whole number may be, both ends included; the remedies replace the usual ones where given. */
export type NumberRange = {
  readonly min: number;
  readonly max: number;
  readonly remedy?: string;
  readonly zeroRemedy?: string;
};

/** A whole number within a range. */
export function wholeNumber(range: NumberRange) {
  return field<number>((input) => readWholeNumber(input, range), rangeRemedy(range));
}

/** Reads a whole number within a range. */
export function readWholeNumber(input: unknown, range: NumberRange): Parsed<number> {
  const remedy = rangeRemedy(range);
  if (typeof input === "string" && /^-?\d+$/.test(input)) {
    return bad(`${show(input)} is text, not a number`, "write it without quotes");
  }
  if (typeof input !== "number" || !Number.isInteger(input)) {
    return bad(`${show(input)} is not a whole number`, remedy);
  }
  if (input < range.min)
    return bad(`${input} is too small`, input === 0 ? (range.zeroRemedy ?? remedy) : remedy);
  if (input > range.max) return bad(`${input} is too large`, remedy);
  return good(input === 0 ? 0 : input); // YAML has a -0
}

function rangeRemedy(range: NumberRange): string {
  return range.remedy ?? `write a whole number from ${range.min} to ${range.max}`;
}

/** true or false. */
export function flag() {
  return field<boolean>(
    (input) =>
      typeof input === "boolean"
        ? good(input)
        : bad(`${show(input)} is not true or false`, "write true or false"),
    "write true or false",
  );
}

/** Reads the name of a user as useradd(8) allows it, or null for whoever starts the process. */
export function readUser(input: unknown): Parsed<string | null> {
  if (input === null) return good(input);
  if (typeof input === "number") return bad(`${input} is a number, not a name`, "write the user's name");
  if (typeof input === "string" && /^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$/.test(input)) return good(input);
  return bad(`${show(input)} is no user's name`, "write one such as accelproxy");
}

/** Reads a name as logs and metrics carry it: 1 to 64 letters, digits, dots, dashes and underscores. */
export function readName(input: unknown): Parsed<string> {
  if (typeof input === "number" || typeof input === "boolean") {
    return bad(
      `${input} is a ${typeof input === "number" ? "number" : "truth value"}, not a name`,
      `write it in quotes: "${input}"`,
    );
  }
  if (typeof input !== "string") return bad(`${show(input)} is not a name`, "write a name such as web");
  if (/^[A-Za-z0-9_.-]{1,64}$/.test(input)) return good(input);
  return bad(`${show(input)} is not a name`, "use 1 to 64 letters, digits, dots, dashes and underscores");
}

/** Reads the path of an HTTP request, with its query if it has one. */
export function readPath(input: unknown): Parsed<string> {
  const remedy = "write a path such as /health";
  if (typeof input !== "string" || !input.startsWith("/")) return bad(`${show(input)} is not a path`, remedy);
  if (!/^[!-~]+$/.test(input) || input.includes("#")) {
    return bad(`${show(input)} is not the path of a request`, "encode spaces and other characters as %XX");
  }
  if (input.length > requestPathCharsMax) {
    return bad(`${show(input)} is too long`, `write at most ${requestPathCharsMax} characters`);
  }
  return good(input);
}
