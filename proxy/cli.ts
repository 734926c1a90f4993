#!/usr/bin/env node
/** The only file that reads arguments, environment and signals, and that ends the process. */
import { isatty } from "node:tty";
import { type Command, HELP, parseCommandLine } from "./args.ts";
import { EXIT, type ExitCode, errorLine, type Output } from "./commands/output.ts";
import type { ProcessEvents } from "./commands/run.ts";
import type { Terminal } from "./commands/screen.ts";
import { version } from "./version.ts";

// Each command is loaded when it is asked for: check and status need nothing native.

const output: Output = {
  stdout: (text) => void process.stdout.write(text),
  stderr: (text) => void process.stderr.write(text),
};

const events: ProcessEvents = {
  onStop: (handler) => {
    process.on("SIGTERM", handler);
    process.on("SIGINT", handler);
  },
  onReload: (handler) => {
    process.on("SIGHUP", handler);
  },
  onUpgrade: (handler) => {
    process.on("SIGUSR2", handler);
  },
  // Rejections that nobody handles come here as well.
  onCrash: (handler) => {
    process.on("uncaughtException", handler);
  },
};

/** Names the descriptor on which the proxy before this one gives what it has (upgrade/predecessor.ts). */
const CHANNEL = "ACCELPROXY_UPGRADE_CHANNEL";
type RunCommand = Extract<Command, { kind: "run" }>;

/** Keys come one by one where stdin is a terminal too, else Ctrl-C is a signal. */
const terminal: Terminal = {
  write: output.stdout,
  size: () => ({ columns: process.stdout.columns, rows: process.stdout.rows }),
  onKey: (handler) => {
    const { stdin } = process;
    if (!stdin.isTTY) return () => {};
    stdin.setRawMode(true);
    stdin.setEncoding("utf8");
    stdin.on("data", handler);
    return () => {
      stdin.setRawMode(false);
      stdin.destroy();
    };
  },
};

const STDOUT = 1;
const STDERR = 2;

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<ExitCode> {
  const parsed = parseCommandLine(args);
  if (!parsed.ok) {
    output.stderr(errorLine(parsed.message));
    return EXIT.usage;
  }
  const { command } = parsed;
  if (command.kind === "run") return runAndExit(command);
  // A reader that went away (accelproxy check … | head) is no error, and there is nobody left to tell.
  process.stdout.on("error", () => process.exit(EXIT.done));
  switch (command.kind) {
    case "help":
      output.stdout(HELP);
      return EXIT.done;
    case "version":
      output.stdout(`${version}\n`);
      return EXIT.done;
    case "check": {
      const { check } = await import("./commands/check.ts");
      return check(command.configFile, output);
    }
    case "intercept": {
      const { intercept } = await import("./commands/intercept.ts");
      const code = await intercept(command, output);
      if (code !== EXIT.done || !command.withProxy) return code;
      return runAndExit({ ...command, restore: undefined, receive: undefined }, async () => {
        await intercept({ ...command, action: "remove" }, output);
      });
    }
    case "doctor": {
      const { doctor } = await import("./commands/doctor.ts");
      return doctor(command, output);
    }
    case "status": {
      const { status } = await import("./commands/status.ts");
      const stop = onSignal("SIGINT", "SIGTERM", "SIGHUP");
      return status({ ...command, terminal: isatty(STDOUT) ? terminal : undefined, stop }, output);
    }
    case "probe": {
      const { runProbe } = await import("./commands/probe.ts");
      const stop = onSignal("SIGINT", "SIGTERM", "SIGHUP");
      return runProbe({ ...command, isTerminal: isatty(STDERR), stop }, output);
    }
    case "images": {
      const { images } = await import("./commands/images.ts");
      return images(command, output);
    }
    case "keys": {
      const { keys } = await import("./commands/keys.ts");
      return keys(command.dir, output);
    }
    case "checkpoint": {
      const { checkpoint } = await import("./commands/checkpoint.ts");
      return checkpoint(command, output);
    }
    default: {
      const unreachable: never = command;
      return unreachable;
    }
  }
}

/**
 * Ends the process itself: what a failed start left open must not keep it alive. The log writes to its descriptor;
 * process.stdout is never touched, which would make a pipe non-blocking.
 */
async function runAndExit(
  { configFile, restore, receive }: Omit<RunCommand, "kind">,
  atEnd?: () => Promise<void>,
): Promise<never> {
  process.stderr.on("error", () => {});
  const { run } = await import("./commands/run.ts");
  const { readPassed } = await import("./passed.ts");
  const { readManager } = await import("./service-manager.ts");
  const given = process.env[CHANNEL];
  delete process.env[CHANNEL];
  const passed = readPassed(process.env, process.pid);
  const manager = readManager(process.env, process.pid);
  const command = {
    program: process.execPath,
    script: process.argv[1] ?? "",
    args: [...process.execArgv, ...process.argv.slice(1)],
    env: { ...process.env },
    channel: CHANNEL,
  };
  const channel = given === undefined ? undefined : Number(given);
  const isTerminal = isatty(STDOUT);
  const { code, hung, isSucceeded } = await run(
    { configFile, restore, receive, isTerminal, events, command, channel, passed, manager },
    output,
  );
  // A new process that took over has the rules too.
  if (!isSucceeded) await atEnd?.();
  if (hung) {
    const { exitNow } = await import("../native/process.ts");
    exitNow(code);
  }
  return process.exit(code);
}

/** Aborted by the first of these signals. */
function onSignal(...signals: readonly NodeJS.Signals[]): AbortSignal {
  const controller = new AbortController();
  for (const signal of signals) process.once(signal, () => controller.abort());
  return controller.signal;
}
