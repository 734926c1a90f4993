/** Every message of the log, read from the program's source: what people may meet, and what its documents must know. */
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

export interface LogMessage {
  readonly message: string;
  /** Words of the log, by which a line may come. */
  readonly levels: ReadonlySet<string>;
}

export interface Finding {
  readonly messages: ReadonlyMap<string, LogMessage>;
  /** Calls whose message is not constant: nobody could look it up. */
  readonly unclear: readonly string[];
}

const root = fileURLToPath(new URL("../../", import.meta.url));
/** From info up; what is below is for who works on the program. */
const LEVELS = ["info", "warn", "error", "fatal"];
const PROGRAM = ["native", "pool", "library", "proxy", "config"];

/** All messages of the program, or of another text that stands for it. */
export function logMessages(sample?: string): Finding {
  const { options, fileNames } = configuration();
  const host = ts.createCompilerHost(options);
  const names = fileNames.filter((name) => PROGRAM.includes(relative(root, name).split("/", 1)[0]!));
  const samplePath = join(root, "proxy/sample.ts");
  if (sample !== undefined) {
    const { getSourceFile } = host;
    host.getSourceFile = (name, target) =>
      name === samplePath ? ts.createSourceFile(name, sample, target, true) : getSourceFile(name, target);
  }
  const program = ts.createProgram(sample === undefined ? names : [samplePath], options, host);
  const checker = program.getTypeChecker();
  const messages = new Map<string, { message: string; levels: Set<string> }>();
  const unclear: string[] = [];
  for (const file of program.getSourceFiles()) {
    if (file.fileName !== samplePath && !names.includes(file.fileName)) continue;
    visit(file, (call) => {
      const levels = levelsOf(call, checker);
      if (levels.length === 0) return;
      const found = messagesOf(call, checker);
      if (found === undefined) unclear.push(placeOf(call, file));
      for (const message of found ?? []) {
        const known = messages.get(message) ?? { message, levels: new Set() };
        for (const level of levels) known.levels.add(level);
        messages.set(message, known);
      }
    });
  }
  return { messages, unclear };
}

function configuration(): ts.ParsedCommandLine {
  const path = join(root, "tsconfig.json");
  const { config } = ts.parseConfigFileTextToJson(path, readFileSync(path, "utf8"));
  return ts.parseJsonConfigFileContent(config, ts.sys, root);
}

function visit(node: ts.Node, onCall: (call: ts.CallExpression) => void): void {
  if (ts.isCallExpression(node)) onCall(node);
  ts.forEachChild(node, (child) => visit(child, onCall));
}

/** Of `log.warn()` and `log[level]()`; none for what is no log, or a level below. */
function levelsOf({ expression }: ts.CallExpression, checker: ts.TypeChecker): readonly string[] {
  const isNamed = ts.isPropertyAccessExpression(expression);
  if (!isNamed && !ts.isElementAccessExpression(expression)) return [];
  const names = isNamed
    ? [expression.name.text]
    : literalsOf(checker.getTypeAtLocation(expression.argumentExpression));
  const levels = (names ?? []).filter((name) => LEVELS.includes(name));
  return levels.length > 0 && isLogger(checker.getTypeAtLocation(expression.expression)) ? levels : [];
}

/** Pino's, ours, or a part of one; a console has more. */
function isLogger(type: ts.Type): boolean {
  const has = (name: string): boolean => type.getProperty(name) !== undefined;
  return (has("info") || has("warn")) && !has("table");
}

/** Of log(message) or log(fields, message). Undefined when it is not known before it is said. */
function messagesOf(
  { arguments: [first, second] }: ts.CallExpression,
  checker: ts.TypeChecker,
): readonly string[] | undefined {
  const message = second ?? first;
  if (message === undefined) return undefined;
  // A thread's line on its way to the log: it was constant where it was said.
  const isForwarded =
    ts.isPropertyAccessExpression(message) &&
    checker.getTypeAtLocation(message.expression).symbol?.name === "LogMessage";
  if (isForwarded) return [];
  return literalsOf(checker.getTypeAtLocation(message));
}

function literalsOf(type: ts.Type): readonly string[] | undefined {
  const types = type.isUnion() ? type.types : [type];
  const texts = types.flatMap((part) => (part.isStringLiteral() ? [part.value] : []));
  return texts.length === types.length ? texts : undefined;
}

function placeOf(call: ts.CallExpression, file: ts.SourceFile): string {
  const { line } = file.getLineAndCharacterOfPosition(call.getStart());
  return `${relative(root, file.fileName)}:${line + 1}`;
}
