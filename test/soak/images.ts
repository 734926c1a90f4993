/**
 * Files of images for long: 10⁵ of them changed by hand, and writers killed at random moments. Exit 1 when one was read
 * that should not be, or a kill left anything but a whole generation.
 *
 *   npm run soak -- images [MUTATIONS] [KILLS]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mutateImages } from "../proxy/checkpoint/image-mutations.ts";
import { killWriters } from "../proxy/checkpoint/killed-writers.ts";

const [mutations = "100000", kills = "60"] = process.argv.slice(2);
const seed = Math.floor(Math.random() * 2 ** 31);
console.log(`seed ${seed}`);
const { same, refused, good } = mutateImages(Number(mutations), seed);
console.log(`${mutations} changed files: ${refused} refused, ${good} good in themselves, ${same} the same`);
const dir = mkdtempSync(join(tmpdir(), "accelproxy-images-"));
try {
  const { leftovers } = await killWriters(dir, Number(kills));
  console.log(`${kills} writers killed, ${leftovers} of them while a new file was being written`);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
