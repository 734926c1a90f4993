// Goal: the package that npm would publish is complete, its types are found, and it runs where it is installed.
// Method: npm pack; publint and attw on the tarball; unpacked into an empty folder whose other packages are links to ours,
// a program in plain JavaScript uses every export.
import { spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const root = fileURLToPath(new URL("../..", import.meta.url));

const PROGRAM = `
import { createServer } from "node:http";
import { Agent } from "undici";
import { connector, createPool, retryUndelivered, UndeliveredError } from "accelproxy";
import * as repair from "accelproxy/repair";
const server = createServer((_, response) => response.end("hello"));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const { port } = server.address();
const pool = createPool({ host: "127.0.0.1", port, min: 2, max: 16 });
const isReady = await pool.ready();
const agent = new Agent({ connect: connector({ min: 2, max: 16 }) }).compose(retryUndelivered());
const { body } = await agent.request({ origin: "http://127.0.0.1:" + port, path: "/", method: "GET" });
console.log(await body.text(), isReady, pool.stats()[0].hits, UndeliveredError.name, typeof repair.restore);
await agent.close();
server.close();
`;

interface Context {
  folder: string;
  tarball: string;
}

function run(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: "utf8" });
  assert.is(status, 0, `${command} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

const tool = (name: string): string => join(root, "node_modules/.bin", name);

const packed = suite<Context>("library: package");
packed.before((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "accelproxy-package-"));
  run("npm", ["pack", "--ignore-scripts", "--pack-destination", context.folder], root);
  context.tarball = join(context.folder, readdirSync(context.folder)[0]!);
});
packed.after(({ folder }) => {
  rmSync(folder, { recursive: true });
});

packed("given the tarball, then publint and attw have nothing to say", ({ tarball }) => {
  run(tool("publint"), ["--strict", tarball], root);
  run(tool("attw"), ["--profile", "esm-only", tarball], root);
});

packed("given an empty folder, then the package runs in it and ends by itself", ({ folder, tarball }) => {
  const modules = join(folder, "node_modules");
  mkdirSync(modules);
  run("tar", ["-xzf", tarball, "-C", modules], folder);
  run("mv", ["package", "accelproxy"], modules);
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  for (const name of Object.keys(dependencies)) {
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(join(root, "node_modules", name), join(modules, name));
  }
  writeFileSync(join(folder, "program.mjs"), PROGRAM);
  assert.is(run(process.execPath, ["program.mjs"], folder), "hello true 1 UndeliveredError function\n");
});

packed.run();
