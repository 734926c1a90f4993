/**
 * Lines of the log in plain words. The log's messages are for programs too, constant, with the facts in fields; here
 * they become sentences. A message that is not in the table is shown as it is, with its fields.
 */
export type Fields = Readonly<Record<string, unknown>>;

/** The sentence for one line of the log, on one line and without control characters. */
export function describe(message: string, fields: Fields): string {
  const words = Object.hasOwn(WORDS, message) ? WORDS[message] : undefined;
  return (words?.(fields) ?? plainly(message, fields)).replace(/[\s\p{Cc}]+/gu, " ").trim();
}

/** Fields that say from where in the program a line comes, not what happened. */
const INNER = new Set(["component", "err", "pid"]);

function plainly(message: string, fields: Fields): string {
  const about = Object.entries(fields).filter(([name]) => !INNER.has(name));
  const facts = about.map(([name, value]) => `${name} ${shown(value)}`);
  const why = fields.err === undefined ? [] : [reason(fields.err)];
  const tail = [...why, ...facts].join(", ");
  return tail === "" ? capital(message) : `${capital(message)} (${tail})`;
}

const WORDS: Readonly<Record<string, (fields: Fields) => string>> = {
  starting: ({ version, accelerate }) =>
    `Starting accelproxy ${shown(version)}${accelerate === false ? ", without acceleration" : ""}`,
  started: () => "Started: every listener accepts",
  listening: ({ listener, address }) => `Listener ${shown(listener)} accepts clients at ${shown(address)}`,
  "admin interface listening": ({ address }) => `The admin interface answers at ${shown(address)}`,
  "half-opens ready": (fields) =>
    `${place(fields)} is ready: ${count(fields.halfOpen, "half-open connection", "half-open connections")}`,
  "half-opens paused": (fields) =>
    `${place(fields)} is left alone for a while (${shown(fields.reason)}): its sessions connect in the ordinary way`,
  "first data on half-opens vanishes, connecting in the ordinary way": (fields) =>
    `${place(fields)} swallows the first data of half-open connections: no acceleration for ${seconds(fields.pauseMs)}`,
  "accelerating again after a pause": (fields) => `${place(fields)} is tried again after its pause`,
  "upstream drops SYNs, holding fewer half-opens": (fields) =>
    `${place(fields)} drops SYNs, its queue is full: at most ${count(fields.ceiling, "half-open connection", "half-open connections")} from now on`,
  "holding as many half-opens as configured again": (fields) =>
    `${place(fields)} may have as many half-open connections as configured again`,
  "upstream answers with SYN cookies": (fields) =>
    `${place(fields)} answers with SYN cookies, its queue is full: half as many half-open connections`,
  "upstream no longer answers with SYN cookies": (fields) => `${place(fields)} needs no SYN cookies any more`,
  "name cannot be resolved, its last addresses stay": (fields) =>
    `The name ${shown(fields.name)} cannot be looked up: its last addresses stay in use`,
  "name is resolved again": (fields) => `The name ${shown(fields.name)} can be looked up again`,
  "configuration reloaded": ({ listenersChanged, upstreamsChanged }) =>
    `Configuration reloaded: ${count(listenersChanged, "listener", "listeners")} and ${count(upstreamsChanged, "upstream", "upstreams")} changed`,
  "configuration not reloaded, the old one stays": ({ problems }) =>
    `Configuration not reloaded, the old one stays: ${list(problems)}`,
  "these settings change at the next start": ({ settings }) =>
    `Changed settings that wait for the next start: ${list(settings)}`,
  "io_uring cannot be used, running on epoll": ({ reason: why }) =>
    `Running on epoll, io_uring cannot be used: ${shown(why)}`,
  "the limit of open files admits fewer sessions than maxConnections": ({ sessions, listeners }) =>
    `The limit of open files admits ${shown(sessions)} sessions, fewer than maxConnections of ${list(listeners)}`,
  "not accelerating: privileges are missing, sessions connect plainly": () =>
    "Privileges are missing: sessions connect in the ordinary way",
  stopping: ({ signal }) => `Stopping (${shown(signal)}): no new clients`,
  draining: ({ active }) => `Draining: ${count(active, "session", "sessions")} left`,
};

/** The messages that become sentences. */
export const EVENT_MESSAGES: readonly string[] = Object.keys(WORDS);

function place({ upstream, server }: Fields): string {
  return `${shown(upstream)} at ${shown(server)}`;
}

function count(number: unknown, one: string, many: string): string {
  return `${shown(number)} ${number === 1 ? one : many}`;
}

function seconds(ms: unknown): string {
  return typeof ms === "number" ? `${Math.round(ms / 1e3)} s` : shown(ms);
}

function list(values: unknown): string {
  return Array.isArray(values) ? values.map(shown).join("; ") : shown(values);
}

/** pino writes errors as objects with a message. */
function reason(error: unknown): string {
  return typeof error === "object" && error !== null && "message" in error
    ? shown(error.message)
    : shown(error);
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "unknown");
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
