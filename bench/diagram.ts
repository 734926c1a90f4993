/**
 * Draws docs/handshake.svg and the text diagram in docs/how-it-works.md from packets captured in a lab: one
 * request past accelproxy and one through it. Nothing in the drawing is made up: `node dist/bench/diagram.js`
 * measures and draws again.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DemoProxy, LISTENER, ORIGIN_PORT, root } from "./demo-proxy.ts";
import { drawSvg, drawText } from "./diagram/draw.ts";
import { type Flow, readFlows } from "./diagram/flows.ts";
import { Lab } from "./lab/lab.ts";
import { runLoadOn, startOrigin } from "./load/processes.ts";

const RTT_MS = 40;
const RESPONSE_BYTES = 1_000;
/** The half-open gets older than one refresh, so that the capture shows how it is kept. */
const IDLE_MS = 2_000;
const BEGIN = "<!-- drawn by bench/diagram.ts -->";
const END = "<!-- end of drawing -->";

/** Captures both ways; every flow to the origin that carried a request, in the order of the requests. */
async function capture(): Promise<readonly Flow[]> {
  const folder = mkdtempSync(join(tmpdir(), "accelproxy-diagram-"));
  const [near, far] = [join(folder, "near.pcap"), join(folder, "far.pcap")];
  try {
    await using lab = await Lab.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
    const host = lab.host("near");
    await startOrigin(lab.host("far"), ORIGIN_PORT);
    await lab.link().record({ near, far });
    const proxy = await DemoProxy.start(host, (line) => process.stderr.write(`${line}\n`));
    await proxy.filled();
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const targets = [
      { name: "direct", host: lab.host("far").address(), port: ORIGIN_PORT },
      { name: "accelerated", ...LISTENER },
    ];
    for (const target of targets) {
      const load = { targets: [target], rate: 10, durationMs: 500, seed: 1, size: RESPONSE_BYTES };
      await runLoadOn(host, { ...load, timeoutMs: 5_000 });
    }
    await proxy.stop();
    await lab.link().stopRecording();
    return readFlows(near, far, ORIGIN_PORT);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const flows = await capture();
const byFirstByte = flows.toSorted((a, b) => a.firstByteMs - b.firstByteMs);
const directs = byFirstByte.filter(({ isAccelerated }) => !isAccelerated);
const direct = directs[directs.length >> 1];
// The one that was kept longest.
const [accelerated] = flows
  .filter(({ isAccelerated }) => isAccelerated)
  .sort((a, b) => a.openedMs - b.openedMs);
if (direct === undefined || accelerated === undefined)
  throw new Error("the capture lacks one of the two ways");

writeFileSync(new URL("docs/handshake.svg", root), drawSvg(direct, accelerated));
const page = new URL("docs/how-it-works.md", root);
const text = readFileSync(page, "utf8");
const [start, end] = [text.indexOf(BEGIN), text.indexOf(END)];
if (start < 0 || end < start) throw new Error(`docs/how-it-works.md lacks "${BEGIN}" and "${END}"`);
const drawing = `\n\n\`\`\`text\n${drawText(direct, accelerated)}\n\`\`\`\n\n`;
writeFileSync(page, text.slice(0, start + BEGIN.length) + drawing + text.slice(end));
