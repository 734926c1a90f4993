/** A real browser on a proxy's page: headless Chromium, and a port that leads to the admin socket. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { type AddressInfo, connect, createServer } from "node:net";
import { type Browser as Chromium, chromium, type Page } from "playwright-core";
import type { ProxyProcess } from "./world.ts";

const CHROMIUM = "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox", // root may not use it
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  // Without these it looks for hosts of its own.
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What a browser tab showed and complained of. */
export interface Tab {
  readonly page: Page;
  /** Errors and warnings of the console, exceptions, and requests that failed or went elsewhere. */
  readonly complaints: readonly string[];
}

export interface View {
  readonly width: number;
  readonly height: number;
  readonly colorScheme: "light" | "dark";
  readonly javaScript?: boolean;
}

export class Browser implements AsyncDisposable {
  readonly #chromium: Chromium;
  readonly #relay = createServer();

  private constructor(launched: Chromium) {
    this.#chromium = launched;
  }

  /** As `ssh -L` would lead there from a desk. */
  static async open(proxy: ProxyProcess): Promise<Browser> {
    const browser = new Browser(await chromium.launch({ executablePath: CHROMIUM, args: FLAGS }));
    browser.#relay.on("connection", (client) => {
      const admin = connect(proxy.adminSocket);
      for (const socket of [client, admin]) socket.on("error", () => {});
      client
        .on("close", () => admin.destroy())
        .pipe(admin)
        .pipe(client);
    });
    await new Promise<void>((resolve) => browser.#relay.listen(0, "127.0.0.1", resolve));
    return browser;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#relay.address() as AddressInfo).port}`;
  }

  /** Opens the page. */
  async tab({ width, height, colorScheme, javaScript = true }: View): Promise<Tab> {
    const context = await this.#chromium.newContext({
      viewport: { width, height },
      colorScheme,
      javaScriptEnabled: javaScript,
    });
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("requestfailed", (request) =>
      complaints.push(`${request.url()}: ${request.failure()?.errorText}`),
    );
    page.on("request", (request) => {
      const isOurs = request.url().startsWith(`${this.origin}/`) || request.url().startsWith("data:");
      if (!isOurs) complaints.push(`asks for ${request.url()}`);
    });
    await page.goto(`${this.origin}/`);
    return { page, complaints };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chromium.close();
    this.#relay.close();
  }
}

/** What axe-core finds that is serious or critical, one line a rule. */
export async function accessibilityProblems(page: Page): Promise<string[]> {
  // Run by the debugger, which the page's policy does not bind.
  await page.evaluate(axe);
  const found = (await page.evaluate("axe.run(document)")) as {
    violations: { id: string; impact: string; nodes: { html: string }[] }[];
  };
  return found.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}
