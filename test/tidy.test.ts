import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { suite } from "uvu";
import * as assert from "uvu/assert";

/**
 * Goal: the rules of style and layout that a compiler and a linter do not know. Method: each rule is a function
 * from one parsed source to its problems; it runs over every source of the repository, and over a sample that
 * breaks it, so that a rule which finds nothing any more is noticed.
 */
interface Source {
  readonly path: string;
  readonly text: string;
  readonly tree: ts.SourceFile;
}

type Rule = (source: Source) => string[];

const root = fileURLToPath(new URL("..", import.meta.url));
const product = ["native", "pool", "library", "proxy", "config"];
const folders = [...product, "bench", "test", "scripts"];

function parse(path: string, text: string): Source {
  return { path, text, tree: ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true) };
}

function nodes(source: Source): ts.Node[] {
  const found: ts.Node[] = [];
  const visit = (node: ts.Node): void => {
    found.push(node);
    ts.forEachChild(node, visit);
  };
  visit(source.tree);
  return found;
}

function at(source: Source, position: number, problem: string): string {
  return `${source.path}:${source.tree.getLineAndCharacterOfPosition(position).line + 1}: ${problem}`;
}

function folderOf(path: string): string {
  return path.split("/", 1)[0] ?? "";
}

interface Import {
  readonly node: ts.Node;
  /** A path from the root for relative imports, else the package's name. */
  readonly target: string;
  readonly isRelative: boolean;
  readonly isTypeOnly: boolean;
}

/** import, export … from, import(), and new URL("./x.ts", import.meta.url), which starts workers. */
function imports(source: Source): Import[] {
  return nodes(source).flatMap((node) => {
    const found = importOf(node);
    if (found === undefined) return [];
    const isRelative = found.specifier.startsWith(".");
    const target = isRelative ? normalize(join(dirname(source.path), found.specifier)) : found.specifier;
    return [{ node, target, isRelative, isTypeOnly: found.isTypeOnly }];
  });
}

function importOf(node: ts.Node): { specifier: string; isTypeOnly: boolean } | undefined {
  if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
    const isTypeOnly = node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword;
    return { specifier: node.moduleSpecifier.text, isTypeOnly };
  }
  if (ts.isExportDeclaration(node) && node.moduleSpecifier && ts.isStringLiteral(node.moduleSpecifier)) {
    return { specifier: node.moduleSpecifier.text, isTypeOnly: node.isTypeOnly };
  }
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
    const { literal } = node.argument;
    return ts.isStringLiteral(literal) ? { specifier: literal.text, isTypeOnly: true } : undefined;
  }
  const isCall = ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword;
  const isUrl =
    ts.isNewExpression(node) && node.expression.getText() === "URL" && node.arguments?.length === 2;
  const [first] = isCall || isUrl ? (node.arguments ?? []) : [];
  return first !== undefined && ts.isStringLiteral(first)
    ? { specifier: first.text, isTypeOnly: false }
    : undefined;
}

/** What each folder may import from; `config` only as types, except for proxy/, which loads it. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  native: ["native"],
  pool: ["native", "pool"],
  library: ["native", "pool", "library"],
  proxy: ["native", "pool", "library", "proxy", "config"],
  config: ["config"],
  bench: [...product, "bench"],
};

const importDirection: Rule = (source) => {
  const from = folderOf(source.path);
  const targets = allowed[from];
  if (targets === undefined) return [];
  return imports(source).flatMap(({ node, target, isRelative, isTypeOnly }) => {
    const to = folderOf(target);
    if (!isRelative || !folders.includes(to) || targets.includes(to)) return [];
    if (to === "config" && isTypeOnly) return [];
    return [at(source, node.getStart(), `${from}/ must not import ${target}`)];
  });
};

const koffiInNativeOnly: Rule = (source) => {
  if (source.path.startsWith("native/") || source.path.startsWith("test/native/")) return [];
  return imports(source)
    .filter(({ target }) => target === "koffi" || target.startsWith("koffi/"))
    .map(({ node }) => at(source, node.getStart(), "only native/ knows koffi"));
};

/** `process.argv`, `process.env`, `process.on("SIG…")`, and the first two imported by name. */
const processInCliOnly: Rule = (source) => {
  if (!product.includes(folderOf(source.path)) || source.path === "proxy/cli.ts") return [];
  const problem = (node: ts.Node, what: string): string =>
    at(source, node.getStart(), `only proxy/cli.ts may use ${what}`);
  return nodes(source).flatMap((node) => {
    if (ts.isImportSpecifier(node)) {
      const module = node.parent.parent.parent.moduleSpecifier.getText().slice(1, -1);
      const name = (node.propertyName ?? node.name).text;
      const isHit = ["process", "node:process"].includes(module) && ["argv", "env"].includes(name);
      return isHit ? [problem(node, `process.${name}`)] : [];
    }
    if (!ts.isPropertyAccessExpression(node) || node.expression.getText() !== "process") return [];
    const name = node.name.text;
    if (["argv", "env"].includes(name)) return [problem(node, `process.${name}`)];
    if (!ts.isCallExpression(node.parent) || !["on", "once", "addListener"].includes(name)) return [];
    const event = node.parent.arguments[0];
    const isSignal = event !== undefined && ts.isStringLiteral(event) && event.text.startsWith("SIG");
    return isSignal ? [problem(node, `process.${name}("${event.text}")`)] : [];
  });
};

const noOnly: Rule = (source) => {
  return nodes(source)
    .filter(ts.isCallExpression)
    .filter(({ expression }) => ts.isPropertyAccessExpression(expression) && expression.name.text === "only")
    .map((node) => at(source, node.getStart(), "a test run with .only() leaves the others out"));
};

/** In the raw text, so in comments too. "TODO #12" and "TODO(#12)" name an issue. */
const noUnownedTodo: Rule = (source) => {
  const found = [...source.text.matchAll(/\bFIXME\b|\bTODO\b(?! ?\(?#\d)/g)];
  return found.map((match) => at(source, match.index, `${match[0]} without an issue number`));
};

const noUtils: Rule = (source) => {
  return /^utils?\.m?[jt]s$/.test(basename(source.path)) ? [`${source.path}: a file tells one story`] : [];
};

const namedExportsOnly: Rule = (source) => {
  return nodes(source)
    .filter(
      (node) =>
        ts.isExportAssignment(node) ||
        node.kind === ts.SyntaxKind.DefaultKeyword ||
        (ts.isExportSpecifier(node) && node.name.text === "default"),
    )
    .filter((node) => !ts.isDefaultClause(node.parent))
    .map((node) => at(source, node.getStart(), "named exports only"));
};

const noAny: Rule = (source) => {
  return nodes(source)
    .filter((node) => node.kind === ts.SyntaxKind.AnyKeyword)
    .map((node) => at(source, node.getStart(), "no `any`"));
};

/** Without .run() uvu never runs a suite, and says nothing. */
const everySuiteRuns: Rule = (source) => {
  if (!source.path.endsWith(".test.ts")) return [];
  const all = nodes(source);
  const started = new Set<string>();
  for (const node of all) {
    if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) continue;
    if (node.expression.name.text === "run") started.add(node.expression.expression.getText());
  }
  const problems: string[] = [];
  for (const node of all) {
    if (!ts.isVariableDeclaration(node) || !node.initializer || !ts.isCallExpression(node.initializer))
      continue;
    if (node.initializer.expression.getText() !== "suite" || started.has(node.name.getText())) continue;
    problems.push(at(source, node.getStart(), `${node.name.getText()}.run() is missing`));
  }
  if (problems.length === 0 && started.size === 0) problems.push(`${source.path}: no .run()`);
  return problems;
};

const SOURCE_LINES_MAX = 500;

const sourcesStayShort: Rule = (source) => {
  const lines = source.text.split("\n").length - 1;
  if (source.path.startsWith("test/") || lines <= SOURCE_LINES_MAX) return [];
  return [`${source.path}: ${lines} lines; a file tells one story in at most ${SOURCE_LINES_MAX}`];
};

const sources = folders.flatMap((folder) => {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(ts|mjs)$/.test(name))
    .map((name) => join(folder, name))
    .map((path) => parse(path, readFileSync(join(root, path), "utf8")));
});

// A bad sample is split where it would break the rule in this file as well.
const rules: readonly (readonly [string, Rule, readonly (readonly [path: string, text: string])[]])[] = [
  [
    "imports go proxy → library → pool → native, config stands alone",
    importDirection,
    [
      ["native/fd.ts", `import { take } from "../pool/pool.ts";`],
      ["native/fd.ts", `import { load } from "../config/load.ts";`],
      ["pool/table.ts", `export { run } from "../proxy/cli.ts";`],
      ["pool/table.ts", `const p = await import("../proxy/engine/worker.ts");`],
      ["pool/keeper.ts", `new Worker(new URL("../bench/lab/lab.ts", import.meta.url));`],
      ["pool/keeper.ts", `import { connector } from "../library/index.ts";`],
      ["library/pool.ts", `import { Runtime } from "../proxy/runtime.ts";`],
      ["config/schema.ts", `import type { Pool } from "../pool/pool.ts";`],
      ["bench/demo.ts", `import { x } from "../test/run-file.ts";`],
      ["proxy/engine/worker.ts", `import { lab } from "../../bench/lab/lab.ts";`],
    ],
  ],
  [
    "only native/ imports koffi",
    koffiInNativeOnly,
    [
      ["pool/table.ts", `import koffi from "koffi";`],
      ["bench/lab/tun.ts", `const { default: koffi } = await import("koffi");`],
    ],
  ],
  [
    "only proxy/cli.ts reads arguments, environment and signals",
    processInCliOnly,
    [
      ["pool/pool.ts", `const debug = process.env.DEBUG;`],
      ["proxy/main.ts", `const [file] = process.argv.slice(2);`],
      ["proxy/main.ts", `import { env } from "node:process";`],
      ["proxy/engine/worker.ts", `process.once("SIGTERM", stop);`],
    ],
  ],
  ["no .only()", noOnly, [["test/x.test.ts", `s.only("given x, then y", () => {});`]]],
  [
    "no note of unfinished work without an issue",
    noUnownedTodo,
    [
      ["native/fd.ts", `// FIX${"ME"}: later`],
      ["native/fd.ts", `// TO${"DO"}: later`],
    ],
  ],
  ["no utils.ts", noUtils, [["native/wire/utils.ts", ""]]],
  [
    "named exports only",
    namedExportsOnly,
    [
      ["pool/pool.ts", "export default class Pool {}"],
      ["pool/pool.ts", "export default 1;"],
      ["pool/pool.ts", "const a = 1; export { a as default };"],
    ],
  ],
  [
    "no any",
    noAny,
    [
      ["pool/pool.ts", "const x = y as any;"],
      ["pool/pool.ts", "function f(x: any): void {}"],
    ],
  ],
  [
    "every suite of a test file runs",
    everySuiteRuns,
    [
      ["test/x.test.ts", `const s = suite("s"); s("t", () => {});`],
      ["test/x.test.ts", `test("t", () => {});`],
      ["test/x.test.ts", `const a = suite("a"); const b = suite("b"); a.run();`],
    ],
  ],
  [
    `source files have at most ${SOURCE_LINES_MAX} lines`,
    sourcesStayShort,
    [["pool/pool.ts", "x;\n".repeat(SOURCE_LINES_MAX + 1)]],
  ],
];

const tidy = suite("tidy");
for (const [name, rule, samples] of rules) {
  tidy(name, () => assert.equal(sources.flatMap(rule), []));
  for (const [path, text] of samples) {
    tidy(`${name}: a bad sample in ${path} is found`, () => assert.is(rule(parse(path, text)).length, 1));
  }
}

for (const [rule, path, text] of [
  [importDirection, "proxy/cli.ts", `import { Pool } from "../pool/pool.ts";`],
  [importDirection, "pool/pool.ts", `import type { PoolConfig } from "../config/schema.ts";`],
  [processInCliOnly, "proxy/cli.ts", `process.on("SIGHUP", reload); const a = process.argv;`],
  [noUnownedTodo, "native/fd.ts", `// TO${"DO"} #12: later`],
  [namedExportsOnly, "pool/pool.ts", "switch (x) { default: y(); }"],
  [noAny, "pool/pool.ts", `const text = "as any"; // : any`],
] as const) {
  tidy(`a good sample in ${path} is left alone: ${text}`, () => assert.equal(rule(parse(path, text)), []));
}

/** A text file of the repository, empty when it is missing. */
function read(path: string): string {
  return existsSync(join(root, path)) ? readFileSync(join(root, path), "utf8") : "";
}

const documents = suite("tidy: documents");
const hasUnreleased = (changelog: string): boolean => /^## \[?Unreleased\]?$/m.test(changelog);
documents("CHANGELOG.md has an Unreleased section", () => {
  assert.ok(hasUnreleased(read("CHANGELOG.md")));
  assert.not(hasUnreleased("# Changelog\n\n## 0.1.0\n"));
});

const namesCommands = (readme: string): boolean =>
  readme.includes("npm run demo") && readme.includes("npm test");
documents("README.md names the two commands", () => {
  assert.ok(namesCommands(read("README.md")));
  assert.not(namesCommands("Run npm test.\n"));
});

tidy.run();
documents.run();
