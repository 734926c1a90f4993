// The page after ten seconds of load, photographed for docs/operating: npm run soak -- page
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Browser } from "../e2e/browser.ts";
import { loadPage, startPageProxy } from "../e2e/page-world.ts";
import { World } from "../e2e/world.ts";

const folder = fileURLToPath(new URL("../../docs/operating/", import.meta.url));
mkdirSync(folder, { recursive: true });
await using world = await World.create();
await world.lab.link().set({ rttMs: 40 });
const proxy = await startPageProxy(world);
await proxy.ready();
await loadPage(world, proxy, 10_000);
await using browser = await Browser.open(proxy);
for (const [name, width, height, colorScheme] of [
  ["light", 1100, 900, "light"],
  ["dark", 1100, 900, "dark"],
  ["phone", 360, 800, "light"],
] as const) {
  const { page, complaints } = await browser.tab({ width, height, colorScheme });
  if (complaints.length > 0) throw new Error(complaints.join("\n"));
  await page.screenshot({ path: `${folder}page-${name}.png`, fullPage: name !== "phone" });
}
