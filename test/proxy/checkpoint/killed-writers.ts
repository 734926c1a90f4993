/** Writers of images that are killed while they write: for the test and the soak of their file. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { readImages } from "../../../proxy/checkpoint/images/image-file.ts";

/** The command that runs image-writer.ts. */
export const WRITER: readonly string[] = [
  process.execPath,
  "--import",
  new URL("../../../scripts/typescript.mjs", import.meta.url).href,
  fileURLToPath(new URL("./image-writer.ts", import.meta.url)),
];
const SESSIONS = 40;
const WRITES_MS = 80;

/** Kills `kills` writers of `dir` at random moments. Throws unless one whole generation is there each time. */
export async function killWriters(dir: string, kills: number): Promise<{ readonly leftovers: number }> {
  const [program = "", ...args] = WRITER;
  let leftovers = 0;
  for (let i = 0; i < kills; i++) {
    const writer = spawn(program, [...args, dir], { stdio: ["ignore", "pipe", "inherit"] });
    await once(writer.stdout, "data");
    await new Promise((resolve) => setTimeout(resolve, WRITES_MS * Math.random()));
    writer.kill("SIGKILL");
    await once(writer, "close");
    const { sessions } = readImages(dir);
    assert.is(sessions.length, SESSIONS);
    assert.is(new Set(sessions.map(({ record }) => record.serversTried)).size, 1);
    leftovers += readdirSync(dir).length - 1;
  }
  return { leftovers };
}
