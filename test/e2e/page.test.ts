// Goal: the page for people shows what the proxy does while it does it, in a real browser, to everybody: at a desk and
// on a phone, light and dark, by keyboard, without JavaScript, and without a word to any other host.
// Method: Chromium on a proxy between two hosts 40 ms apart, under load; axe-core judges what it shows.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { accessibilityProblems, Browser, type View } from "./browser.ts";
import { loadPage, startPageProxy } from "./page-world.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 40;
const LOAD_MS = 2_500;
const DESK: View = { width: 1280, height: 900, colorScheme: "light" };
const PHONE: View = { width: 360, height: 740, colorScheme: "dark" };

interface Context {
  world: World;
  proxy: ProxyProcess;
  browser: Browser;
}

const page = suite<Context>("page");
page.before(async (context) => {
  context.world = await World.create();
  await context.world.lab.link().set({ rttMs: RTT_MS });
  context.proxy = await startPageProxy(context.world);
  await context.proxy.ready();
  context.browser = await Browser.open(context.proxy);
});
page.after(async ({ world, browser }) => {
  await browser[Symbol.asyncDispose]();
  await world.close();
});

const number = (text: string | null): number => Number((text ?? "").replaceAll(",", ""));

page("given a load, then the numbers move by themselves, and say what /status says", async (context) => {
  const { world, proxy, browser } = context;
  const { page: tab, complaints } = await browser.tab(DESK);
  const trips = tab.locator("#round-trips");
  const seen = new Set<number>([number(await trips.textContent())]);
  const load = loadPage(world, proxy, LOAD_MS);
  let isOver = false;
  void load.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    seen.add(number(await trips.textContent()));
    await tab.waitForTimeout(50);
  }
  assert.ok((await load) > 30);
  assert.ok(seen.size >= 3, `${[...seen]}`);
  const { saved, events } = await proxy.status();
  assert.ok(
    saved.roundTrips > 20 && Math.abs(saved.seconds / saved.roundTrips - RTT_MS / 1e3) < 0.02,
    JSON.stringify(saved),
  );
  await tab.locator("#round-trips", { hasText: saved.roundTrips.toLocaleString("en") }).waitFor();
  const text = await tab.locator("#live").textContent();
  for (const part of [
    /accelerated within about \d+ ms/,
    /of \d+ half-open/,
    /is left alone for a while/,
    /web/,
  ])
    assert.match(text ?? "", part);
  assert.is(await tab.locator(".events li").count(), events.length);
  assert.equal(await accessibilityProblems(tab), []);
  assert.equal(complaints, []);
});

page("given somebody who selects and focuses, then a refresh leaves that as it is", async ({ browser }) => {
  const { page: tab } = await browser.tab(DESK);
  await tab.evaluate("getSelection().selectAllChildren(document.getElementById('pools'))");
  await tab.keyboard.press("Tab");
  const focused = "document.activeElement.getAttribute('href')";
  assert.is(await tab.evaluate(focused), "status");
  const before = await tab.locator("#about .about").textContent();
  while ((await tab.locator("#about .about").textContent()) === before) await tab.waitForTimeout(50);
  assert.is(await tab.evaluate(focused), "status");
  assert.is(await tab.evaluate("getSelection().toString()"), "Pools");
});

page(
  "given a phone in the dark, then nothing is wider than it, and everything can be read",
  async ({ browser }) => {
    const { page: tab, complaints } = await browser.tab(PHONE);
    assert.is(await tab.evaluate("document.documentElement.scrollWidth"), PHONE.width);
    assert.equal(await accessibilityProblems(tab), []);
    assert.equal(complaints, []);
  },
);

page("given no JavaScript, then the page is complete", async ({ browser, proxy }) => {
  const { page: tab } = await browser.tab({ ...DESK, javaScript: false });
  const { saved } = await proxy.status();
  assert.is(number(await tab.locator("#round-trips").textContent()), saved.roundTrips);
  assert.is(await tab.locator(".pools > li").count(), 3);
});

page("given a proxy that ends, then the page says so and keeps what it had", async ({ browser, proxy }) => {
  const { page: tab } = await browser.tab(DESK);
  assert.is(await proxy.stop(), 0);
  await tab.locator("#notice", { hasText: "does not answer" }).waitFor();
  assert.is(await tab.locator(".pools > li").count(), 3);
});
page.run();
