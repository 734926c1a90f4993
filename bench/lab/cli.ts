/** A lab to play with: prints how to enter its hosts and keeps it until Ctrl-C. */
import { once } from "node:events";
import { parseArgs } from "node:util";
import { Lab, LabError } from "./lab.ts";

const USAGE = `usage: cli.ts [--rtt MS] [--jitter MS] [--loss SHARE] [--reorder SHARE] [--rate BYTES/S] [--record DIR]
Two hosts, near and far, joined by a line with this round-trip time, until Ctrl-C.
`;

const { values } = parseArgs({
  options: {
    rtt: { type: "string", default: "40" },
    jitter: { type: "string", default: "0" },
    loss: { type: "string", default: "0" },
    reorder: { type: "string", default: "0" },
    rate: { type: "string", default: "0" },
    record: { type: "string" },
    help: { type: "boolean", default: false },
  },
});

async function main(): Promise<void> {
  await using lab = await Lab.create();
  const link = lab.link();
  await link.set({
    rttMs: Number(values.rtt),
    jitterMs: Number(values.jitter),
    loss: Number(values.loss),
    reorder: Number(values.reorder),
    rateBytesPerSecond: Number(values.rate),
  });
  const { record } = values;
  if (record !== undefined) {
    await link.record(Object.fromEntries(link.hosts.map((host) => [host, `${record}/${host}.pcap`])));
  }
  for (const name of link.hosts) {
    const host = lab.host(name);
    process.stdout.write(
      `${name.padEnd(5)} ${host.address(4)}  ${host.address(6)}\n` +
        `      nsenter --net=${host.namespacePath} bash\n`,
    );
  }
  process.stdout.write("Ctrl-C ends the lab and what runs in it.\n");
  const alive = setInterval(() => undefined, 1 << 30);
  await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
  clearInterval(alive);
  process.stdout.write(`${JSON.stringify(await link.counters(), undefined, 2)}\n`);
}

try {
  if (values.help) process.stdout.write(USAGE);
  else await main();
} catch (error) {
  if (!(error instanceof LabError)) throw error;
  process.stderr.write(`lab: ${error.message}\n`);
  process.exitCode = error.code === "ACCEL_LAB_UNAVAILABLE" ? 77 : error.code === "ACCEL_LAB_USAGE" ? 2 : 1;
}
