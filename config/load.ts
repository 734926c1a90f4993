import { type FileHandle, open } from "node:fs/promises";
import { readDocument } from "./document.ts";
import { explainIssue } from "./explain.ts";
import type { Problem } from "./problems.ts";
import { checkRules } from "./rules.ts";
import { type Config, configSchema } from "./schema.ts";

/** A configuration that can be used as it is, or everything that is wrong with the file, by position. */
export type LoadResult =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** The largest file that is read, in bytes. */
export const fileBytesMax = 1024 * 1024;

/**
 * Reads and checks a configuration file. Never rejects: a file that cannot be read is a problem at 1:1.
 * The descriptor it opens is closed when it returns.
 */
export async function loadConfig(path: string): Promise<LoadResult> {
  const read = await readText(path);
  if (read.ok) return parseConfig(read.text, path);
  return {
    ok: false,
    problems: [{ file: path, line: 1, column: 1, problem: read.problem, remedy: read.remedy }],
  };
}

/**
 * Checks the text of a configuration; `file` is only for the problems. Pure. All problems of the file are
 * reported together, except that a YAML syntax error hides what comes after it.
 */
export function parseConfig(text: string, file: string): LoadResult {
  const control = controlCharacter(text);
  if (control !== undefined) return { ok: false, problems: [{ file, ...control }] };
  const document = readDocument(text);
  const problems: Problem[] = document.problems.map((problem) => ({ file, ...problem }));
  if (document.value === undefined) return { ok: false, problems: inOrder(problems) };
  const checked = configSchema.safeParse(document.value);
  const issues = checked.success ? [] : checked.error.issues;
  const findings = [
    ...issues.flatMap((issue) => explainIssue(issue, document.value)),
    ...checkRules(document.value),
  ];
  for (const { path, part, problem, remedy } of findings) {
    problems.push({ file, ...document.locate(path, part), problem, remedy });
  }
  if (checked.success && problems.length === 0) return { ok: true, config: deepFreeze(checked.data) };
  return { ok: false, problems: inOrder(problems) };
}

/** By position. What an alias repeats in several places is one problem. */
function inOrder(problems: readonly Problem[]): Problem[] {
  const byPlace = new Map(problems.map((p) => [`${p.line}:${p.column}:${p.problem}`, p]));
  return [...byPlace.values()].sort((a, b) => a.line - b.line || a.column - b.column);
}

type ReadResult =
  | { readonly ok: true; readonly text: string }
  | { readonly ok: false; readonly problem: string; readonly remedy: string };

const fileErrors: Readonly<Record<string, readonly [problem: string, remedy: string]>> = {
  ENOENT: ["the file does not exist", "check the path after --config"],
  ENOTDIR: ["the file does not exist", "check the path after --config"],
  EISDIR: ["this is a directory", "give the configuration file in it"],
  EACCES: ["the file may not be read", "grant this user read permission"],
  ERR_ENCODING_INVALID_ENCODED_DATA: ["the file is not UTF-8 text", "give a YAML text file"],
};

async function readText(path: string): Promise<ReadResult> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, "r");
    const bytes = await readUpTo(handle, fileBytesMax + 1);
    if (bytes.length > fileBytesMax) {
      return { ok: false, problem: "the file is larger than 1 MiB", remedy: "give a configuration file" };
    }
    return { ok: true, text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
  } catch (err) {
    const { code = "" } = err as NodeJS.ErrnoException;
    const [problem, remedy] = fileErrors[code] ?? [
      `the file cannot be read: ${code}`,
      "give a readable file",
    ];
    return { ok: false, problem, remedy };
  } finally {
    await handle?.close();
  }
}

async function readUpTo(handle: FileHandle, bytesMax: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(bytesMax);
  let length = 0;
  while (length < bytesMax) {
    const { bytesRead } = await handle.read(buffer, length, bytesMax - length, null);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.subarray(0, length);
}

function controlCharacter(text: string): Omit<Problem, "file"> | undefined {
  let line = 1;
  let lineStart = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit === 10) {
      line++;
      lineStart = i + 1;
    } else if ((unit < 32 && unit !== 9 && unit !== 13) || unit === 127) {
      const hex = unit.toString(16).padStart(2, "0");
      const problem = `the file contains the control character 0x${hex}`;
      return { line, column: i - lineStart + 1, problem, remedy: "give a YAML text file" };
    }
  }
  return undefined;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const part of Object.values(value)) deepFreeze(part);
    Object.freeze(value);
  }
  return value;
}
