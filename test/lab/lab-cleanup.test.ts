// Goal: nothing of a lab outlives its owner, however that ends; an ordinary user can have one; and where
// nobody can, the error says what to do.
// Method: a program of its own owns the lab; we end it and look for what it had.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { processesIn } from "../../bench/lab/sweep.ts";

const OWNER = fileURLToPath(new URL("./lab-owner.ts", import.meta.url));
const NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

interface Owner {
  readonly process: ChildProcess;
  readonly lines: AsyncIterator<string>;
}

/** Starts an owner behind the commands of `prefix`. */
function start(ending: string, prefix: readonly string[] = []): Owner {
  const [command, ...args] = [...prefix, process.execPath, ...process.execArgv, OWNER, ending];
  const child = spawn(command!, args, { stdio: ["ignore", "pipe", "inherit"] });
  return { process: child, lines: createInterface({ input: child.stdout! })[Symbol.asyncIterator]() };
}

async function line({ lines }: Owner): Promise<string> {
  const { value } = await lines.next();
  return value ?? assert.unreachable("the owner ended without a word");
}

interface Report {
  readonly owner: number;
  readonly pids: readonly number[];
  readonly rttMs: number;
}

async function report(owner: Owner): Promise<Report> {
  const first = await line(owner);
  const reported = JSON.parse(first);
  assert.ok(reported.pids, first);
  return reported;
}

function childrenOf(parent: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => statOf(pid)?.parent === parent);
}

function commandOf(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, "latin1");
}

/** Undefined when the process is gone; a zombie counts as gone. */
function statOf(pid: number): { readonly parent: number } | undefined {
  try {
    const [state, parent] = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)!.split(" ");
    return state === "Z" ? undefined : { parent: Number(parent) };
  } catch {
    return undefined;
  }
}

/** Everything the owner's lab consists of. */
function possessions({ owner, pids }: Report): { pids: Set<number>; namespaces: Set<number> } {
  return {
    pids: new Set([...childrenOf(owner), ...pids]),
    namespaces: new Set(pids.map((pid) => statSync(`/proc/${pid}/ns/net`).ino)),
  };
}

async function requireGone({ pids, namespaces }: ReturnType<typeof possessions>): Promise<void> {
  const alive = (): number[] => [...pids].filter((pid) => statOf(pid) !== undefined);
  for (let attempt = 0; attempt < 200 && alive().length > 0; attempt++) await sleep(10);
  assert.equal(alive(), []);
  assert.equal(processesIn(namespaces), []);
}

const cleanup = suite("lab: clean-up");

cleanup("given a SIGKILL for the owner, then line, processes and their orphans are gone", async () => {
  const owner = start("wait");
  const had = possessions(await report(owner));
  assert.ok(had.pids.size >= 3);
  assert.is(had.namespaces.size, 2);
  owner.process.kill("SIGKILL");
  await requireGone(had);
});

cleanup("given a SIGKILL for the line, then the owner's calls reject and its processes end", async () => {
  const owner = start("lose-line");
  const reported = await report(owner);
  const had = possessions(reported);
  const lineProcess = childrenOf(reported.owner).find((pid) => commandOf(pid).includes("delay-line"));
  process.kill(lineProcess!, "SIGKILL");
  assert.is(await line(owner), "ACCEL_LAB_FAILED");
  assert.equal(await once(owner.process, "exit"), [0, null]);
  await requireGone(had);
});

for (const ending of ["close", "exit"]) {
  cleanup(`given ${ending}, then the owner ends by itself and all is gone`, async () => {
    const owner = start(ending);
    const exited = once(owner.process, "exit");
    const { owner: _owner, pids } = await report(owner);
    if (ending === "exit") {
      // The process in the lab keeps it alive until it ends.
      process.kill(pids[0]!);
    }
    assert.equal(await exited, [0, null]);
    await requireGone({ pids: new Set(pids), namespaces: new Set() });
  });
}

const isRoot = process.getuid?.() === 0;

/** A device node that everyone may open, seen by the command alone. */
const OPEN_DEVICE = [
  "unshare",
  "-m",
  "sh",
  "-c",
  `mount -t tmpfs -o mode=755 tmpfs /mnt && mknod -m 666 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun && exec "$@"`,
  "sh",
];

for (const [given, prefix, needsRoot] of [
  ["unshare -Urn as this user", ["unshare", "-Urn"], false],
  ["unshare -Urn as an ordinary user", [...OPEN_DEVICE, ...NOBODY, "unshare", "-Urn"], true],
] as const) {
  if (needsRoot && !isRoot) continue;
  cleanup(`given ${given}, then the lab works and a SIGKILL leaves nothing`, async () => {
    const owner = start("wait", prefix);
    const reported = await report(owner);
    const had = possessions(reported);
    owner.process.kill("SIGKILL");
    await requireGone(had);
    assert.ok(reported.rttMs >= 10, `RTT ${reported.rttMs}`); // how much later is for a busy machine to say
  });
}

for (const [given, prefix, remedy] of [
  ["no privilege", NOBODY, /unshare -Urn/],
  ["a device only root may open", [...NOBODY, "unshare", "-Urn"], /chmod 666 \/dev\/net\/tun/],
  [
    "no device",
    ["unshare", "-m", "sh", "-c", `mount -t tmpfs tmpfs /dev/net && exec "$@"`, "sh"],
    /modprobe tun/,
  ],
] as const) {
  if (!isRoot) continue;
  cleanup(`given ${given}, then the error names the remedy`, async () => {
    const owner = start("close", prefix);
    const { code, message } = JSON.parse(await line(owner));
    assert.is(code, "ACCEL_LAB_UNAVAILABLE");
    assert.match(message, remedy);
    await once(owner.process, "exit");
  });
}

cleanup.run();
