// A program that owns a lab, for lab-cleanup.test.ts to end in various ways. Says what it has on stdout, then
// waits to be killed; with the argument "close" it closes the lab and says so; with "exit" it just exits.
import { once } from "node:events";
import { Lab, LabError } from "../../bench/lab/lab.ts";
import { parseAddress } from "../../native/address.ts";
import { IcmpEcho } from "../../native/net/icmp-echo.ts";

const [ending] = process.argv.slice(2);

try {
  const lab = await Lab.create({ links: [{ between: ["near", "far"], rttMs: 10 }] });
  // A process that started others and left them: they are nobody's children.
  const orphans = await lab.host("far").run("sh", ["-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"]);
  const child = lab.host("near").spawn("sleep", ["1000"]);
  using echo = lab.host("near").enter(() => new IcmpEcho(parseAddress(lab.host("far").address(6))!));
  const report = {
    owner: process.pid,
    pids: [child.pid, Number(orphans.stdout)],
    rttMs: echo.measureMs(1000),
  };
  process.stdout.write(`${JSON.stringify(report)}\n`);
  if (ending === "wait") setInterval(() => undefined, 1000);
  if (ending === "lose-line") {
    await once(child, "exit");
    const code = await lab
      .link()
      .counters()
      .catch((error: unknown) => (error instanceof LabError ? error.code : error));
    process.stdout.write(`${code}\n`);
    await lab.close();
  }
  if (ending === "close") await lab.close();
} catch (error) {
  if (!(error instanceof LabError)) throw error;
  process.stdout.write(`${JSON.stringify({ code: error.code, message: error.message })}\n`);
}
