import { parseArgs } from "node:util";
import { type AdminBind, parseAdminBind, parseServerAddress } from "../config/addresses.ts";
import { type Fault, nearest, show } from "../config/problems.ts";
import { COUNT_DEFAULT, COUNT_MAX } from "./probe/limits.ts";

/** The command line as data: what to do, or the one line that says what is wrong with it. */

/** Where `status` finds the admin interface; a TCP host may be a name here. */
export type AdminAddress = AdminBind;

/** An end of a move, and where the keys for it are. */
export interface KeyedAddress {
  readonly host: string;
  readonly port: number;
  readonly keys: string;
}

export type Command =
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  | {
      readonly kind: "run";
      readonly configFile: string;
      /** Where a checkpoint is to be restored from. */
      readonly restore: string | undefined;
      /** Where to listen for sessions of another host. */
      readonly receive: KeyedAddress | undefined;
    }
  | { readonly kind: "check"; readonly configFile: string }
  | {
      readonly kind: "intercept";
      readonly configFile: string;
      readonly action: "print" | "apply" | "remove";
      /** Run the proxy too, and remove at its end. */
      readonly withProxy: boolean;
    }
  | { readonly kind: "doctor"; readonly json: boolean }
  | {
      readonly kind: "status";
      readonly admin: AdminAddress;
      readonly json: boolean;
      readonly watch: boolean;
    }
  | { readonly kind: "images"; readonly dir: string; readonly json: boolean }
  | { readonly kind: "keys"; readonly dir: string }
  | {
      readonly kind: "checkpoint";
      readonly goal: { readonly dir: string } | { readonly to: KeyedAddress };
      readonly admin: AdminAddress;
    }
  | {
      readonly kind: "probe";
      readonly target: { readonly host: string; readonly port: number };
      /** Pairs of connections. */
      readonly count: number;
      readonly lifetime: boolean;
      readonly json: boolean;
    };

export type ParsedArgs =
  | { readonly ok: true; readonly command: Command }
  | { readonly ok: false; readonly message: string };

const OPTIONS = {
  config: { type: "string" },
  admin: { type: "string" },
  json: { type: "boolean" },
  watch: { type: "boolean" },
  count: { type: "string" },
  lifetime: { type: "boolean" },
  help: { type: "boolean" },
  version: { type: "boolean" },
  restore: { type: "string" },
  dir: { type: "string" },
  to: { type: "string" },
  keys: { type: "string" },
  receive: { type: "string" },
  print: { type: "boolean" },
  apply: { type: "boolean" },
  remove: { type: "boolean" },
  "with-proxy": { type: "boolean" },
} as const;

type Option = keyof typeof OPTIONS;

const METAVARS: Readonly<Partial<Record<Option, string>>> = {
  config: "FILE",
  admin: "ADDRESS",
  count: "N",
  restore: "DIR",
  dir: "DIR",
  to: "HOST:PORT",
  keys: "DIR",
  receive: "ADDRESS",
};

/** The options of each command; "" is the run in the foreground, which has no word. */
const COMMANDS: Readonly<Record<string, readonly Option[]>> = {
  "": ["config", "restore", "receive", "keys", "help", "version"],
  check: ["config", "help"],
  doctor: ["json", "help"],
  status: ["admin", "json", "watch", "help"],
  probe: ["count", "lifetime", "json", "help"],
  intercept: ["config", "print", "apply", "remove", "with-proxy", "help"],
  images: ["json", "help"],
  keys: ["help"],
  checkpoint: ["dir", "to", "keys", "admin", "help"],
};

/** The word after the command, of those that take one. */
const OPERANDS: Readonly<Record<string, string>> = { probe: "HOST:PORT", images: "DIR", keys: "DIR" };

const ALL_OPTIONS = [...new Set(Object.values(COMMANDS).flat())];

/** Where `accelproxy keys` is told to put them by the documentation. */
const DEFAULT_KEYS = "/etc/accelproxy/keys";

const DEFAULT_ADMIN = "unix:/run/accelproxy.sock";

export const HELP = `Usage:
  accelproxy --config FILE [--restore DIR]               run in the foreground, going on with a checkpoint's sessions
  accelproxy check --config FILE                         print the effective configuration, or every problem
  accelproxy intercept --config FILE (--print | --apply [--with-proxy] | --remove)
                                                         rules that bring connections to transparent listeners;
                                                         with the proxy: it runs too, and they go when it ends
  accelproxy doctor [--json]                             what this host and user can do, with remedies
  accelproxy status [--admin ADDRESS] [--json] [--watch] what the running proxy says
  accelproxy probe HOST:PORT [--count N] [--lifetime] [--json]
                                                         what acceleration would save towards an upstream
  accelproxy --config FILE --receive ADDRESS [--keys DIR] the same with sessions that another host moves here
  accelproxy checkpoint --dir DIR [--admin ADDRESS]      stop the running proxy, its sessions go to DIR
  accelproxy checkpoint --to HOST:PORT [--keys DIR] [--admin ADDRESS]
                                                         stop the running proxy, its sessions go to that host
  accelproxy images DIR [--json]                         the sessions in a checkpoint
  accelproxy keys DIR                                    make the key and certificate for moving sessions
  accelproxy --version | --help

ADDRESS is unix:PATH, HOST:PORT or [V6]:PORT, by default ${DEFAULT_ADMIN}.

Exit codes: 0 done, 1 failed at run time, 2 wrong usage or configuration, 77 a missing privilege.
Signals: SIGTERM and SIGINT drain, a second one ends at once; SIGHUP reloads the configuration;
SIGUSR2 has a new process take over everything.
`;

class UsageError extends Error {}

/** Reads the arguments that follow the program's name. Pure; never throws. */
export function parseCommandLine(args: readonly string[]): ParsedArgs {
  try {
    return { ok: true, command: readCommand(args) };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { ok: false, message: error.message };
  }
}

function readCommand(args: readonly string[]): Command {
  const { tokens } = parseArgs({
    args: [...args],
    options: OPTIONS,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const words = tokens.flatMap((token) => (token.kind === "positional" ? [token.value] : []));
  const word = words[0] ?? "";
  const allowed = Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined;
  for (const token of tokens) {
    if (token.kind === "option" && !isOption(token.rawName))
      throw unknownOption(token.rawName, allowed ?? ALL_OPTIONS);
  }
  if (word === "" && words.length > 0) throw new UsageError("the command is empty (see accelproxy --help)");
  if (allowed === undefined) throw unknownCommand(word);
  const operands = Object.hasOwn(OPERANDS, word) ? 1 : 0;
  if (words.length > 1 + operands) {
    throw new UsageError(
      `${commandName(word)} takes no ${show(words[1 + operands])} (see accelproxy --help)`,
    );
  }

  const values = new Map<Option, string>();
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const option = allowed.find((name) => token.rawName === `--${name}`);
    if (option === undefined) {
      throw new UsageError(`${commandName(word)} takes no ${token.rawName} (see accelproxy --help)`);
    }
    if (values.has(option)) throw new UsageError(`--${option} is given twice (give it once)`);
    values.set(option, readValue(option, token.value, token.inlineValue));
  }
  if (values.has("help")) return { kind: "help" };
  if (values.has("version")) return { kind: "version" };
  switch (word) {
    case "check":
      return { kind: "check", configFile: requireValue(values, "config", "accelproxy check --config FILE") };
    case "intercept":
      return {
        kind: "intercept",
        configFile: requireValue(values, "config", "accelproxy intercept --config FILE --print"),
        ...readInterception(values),
      };
    case "doctor":
      return { kind: "doctor", json: values.has("json") };
    case "status":
      return {
        kind: "status",
        admin: readAdmin(values.get("admin") ?? DEFAULT_ADMIN),
        json: values.has("json"),
        watch: values.has("watch"),
      };
    case "probe":
      return {
        kind: "probe",
        target: readTarget(readOperand(word, words[1])),
        count: readCount(values.get("count")),
        lifetime: values.has("lifetime"),
        json: values.has("json"),
      };
    case "images":
      return { kind: "images", dir: readOperand(word, words[1]), json: values.has("json") };
    case "keys":
      return { kind: "keys", dir: readOperand(word, words[1]) };
    case "checkpoint":
      return {
        kind: "checkpoint",
        goal: readGoal(values),
        admin: readAdmin(values.get("admin") ?? DEFAULT_ADMIN),
      };
    default:
      return {
        kind: "run",
        configFile: requireValue(values, "config", "accelproxy --config FILE, or see --help"),
        ...readOrigin(values),
      };
  }
}

/** The value of an option, "" for one that takes none. */
function readValue(option: Option, value: string | undefined, isInline: boolean | undefined): string {
  if (OPTIONS[option].type === "boolean") {
    if (value !== undefined) throw new UsageError(`--${option} takes no value (write --${option} alone)`);
    return "";
  }
  const metavar = METAVARS[option] ?? "VALUE";
  if (value === undefined || value === "") {
    throw new UsageError(`--${option} needs a value (write --${option} ${metavar})`);
  }
  if (isInline !== true && value.startsWith("-")) {
    throw new UsageError(
      `--${option} needs a value before ${show(value)} (write --${option} ${metavar}, or --${option}=${metavar} for one that begins with a dash)`,
    );
  }
  if (value.includes("\0")) throw new UsageError(`--${option} contains a NUL character (remove it)`);
  return value;
}

function requireValue(values: ReadonlyMap<Option, string>, option: Option, usage: string): string {
  const value = values.get(option);
  if (value === undefined) throw new UsageError(`--${option} is missing (write ${usage})`);
  return value;
}

function readGoal(values: ReadonlyMap<Option, string>): Extract<Command, { kind: "checkpoint" }>["goal"] {
  const [dir, to] = [values.get("dir"), values.get("to")];
  if (dir !== undefined && to !== undefined)
    throw new UsageError("--dir and --to exclude each other (give one)");
  if (to === undefined) {
    refuseKeys(values, "--to");
    return { dir: requireValue(values, "dir", "accelproxy checkpoint --dir DIR, or --to HOST:PORT") };
  }
  return { to: readKeyed("--to", to, values) };
}

/** Where a run has its first sessions from. */
function readOrigin(
  values: ReadonlyMap<Option, string>,
): Pick<Extract<Command, { kind: "run" }>, "restore" | "receive"> {
  const [restore, receive] = [values.get("restore"), values.get("receive")];
  if (restore !== undefined && receive !== undefined) {
    throw new UsageError("--restore and --receive exclude each other (give one)");
  }
  if (receive === undefined) {
    refuseKeys(values, "--receive");
    return { restore, receive };
  }
  return { restore, receive: readKeyed("--receive", receive, values) };
}

function readInterception(
  values: ReadonlyMap<Option, string>,
): Pick<Extract<Command, { kind: "intercept" }>, "action" | "withProxy"> {
  const actions = (["print", "apply", "remove"] as const).filter((action) => values.has(action));
  const [action] = actions;
  if (action === undefined || actions.length > 1) {
    throw new UsageError("intercept needs one of --print, --apply and --remove (see accelproxy --help)");
  }
  const withProxy = values.has("with-proxy");
  if (withProxy && action !== "apply") {
    throw new UsageError("--with-proxy is for --apply (see accelproxy --help)");
  }
  return { action, withProxy };
}

function refuseKeys(values: ReadonlyMap<Option, string>, companion: string): void {
  if (values.has("keys")) throw new UsageError(`--keys is for ${companion} (see accelproxy --help)`);
}

function readKeyed(name: string, text: string, values: ReadonlyMap<Option, string>): KeyedAddress {
  const address = parseServerAddress(text);
  if (!address.ok) {
    const { fault } = address;
    throw new UsageError(`${name}: ${fault.kind === "bad" ? fault.problem : fault.kind} (${fault.remedy})`);
  }
  const { host, port } = address.value;
  return { host, port, keys: values.get("keys") ?? DEFAULT_KEYS };
}

function readAdmin(text: string): AdminAddress {
  if (text.startsWith("unix:") || text.startsWith("/")) {
    const bind = parseAdminBind(text);
    if (bind.ok) return bind.value;
    throw adminFault(bind.fault);
  }
  const address = parseServerAddress(text);
  if (address.ok) return { kind: "tcp", host: address.value.host, port: address.value.port };
  throw adminFault(address.fault);
}

function readOperand(word: string, text: string | undefined): string {
  if (text !== undefined && text !== "") return text;
  throw new UsageError(`${OPERANDS[word]} is missing (write accelproxy ${word} ${OPERANDS[word]})`);
}

function readTarget(text: string): { host: string; port: number } {
  const address = parseServerAddress(text);
  if (address.ok) return { host: address.value.host, port: address.value.port };
  const { fault } = address;
  throw new UsageError(`probe: ${fault.kind === "bad" ? fault.problem : fault.kind} (${fault.remedy})`);
}

function readCount(text: string | undefined): number {
  if (text === undefined) return COUNT_DEFAULT;
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= COUNT_MAX) return count;
  throw new UsageError(`--count: ${show(text)} is no number of connections (write 1 to ${COUNT_MAX})`);
}

function adminFault(fault: Fault): UsageError {
  const problem = fault.kind === "bad" ? fault.problem : fault.kind;
  return new UsageError(`--admin: ${problem} (${fault.remedy})`);
}

function unknownCommand(word: string): UsageError {
  const names = Object.keys(COMMANDS).filter((name) => name !== "");
  const near = nearest(word, names);
  const remedy = near === undefined ? "see accelproxy --help" : `did you mean ${near}?`;
  return new UsageError(`unknown command ${show(word)} (${remedy})`);
}

function isOption(rawName: string): boolean {
  const name = rawName.slice(2);
  return rawName.startsWith("--") && Object.hasOwn(OPTIONS, name);
}

function unknownOption(rawName: string, allowed: readonly Option[]): UsageError {
  const name = rawName.replace(/^-+/, "");
  const near = nearest(name, allowed);
  const remedy = near === undefined ? "see accelproxy --help" : `did you mean --${near}?`;
  return new UsageError(`unknown option ${show(rawName)} (${remedy})`);
}

function commandName(word: string): string {
  return word === "" ? "accelproxy" : `accelproxy ${word}`;
}
