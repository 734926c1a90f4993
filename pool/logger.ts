/** The part of pino that the pool and the engine use. Facts go in fields, the message is constant. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

const LEVELS = ["debug", "info", "warn"] as const;

/** A log line on its way from a thread to the one that writes the log. */
export interface LogMessage {
  readonly kind: "log";
  readonly level: (typeof LEVELS)[number];
  readonly fields: object;
  readonly message: string;
}

/**
 * A logger of a thread that may sleep in a system call: it posts its lines, so that one thread writes them all
 * in one format. Lines below `level` (a pino level) cost nothing.
 */
export function forwardingLogger(level: string, post: (line: LogMessage) => void): Logger {
  const least = level === "trace" ? 0 : LEVELS.indexOf(level as LogMessage["level"]);
  const write = (name: LogMessage["level"]) => {
    const isWanted = least >= 0 && LEVELS.indexOf(name) >= least;
    return (fields: object, message: string) => {
      if (isWanted) post({ kind: "log", level: name, fields, message });
    };
  };
  return { debug: write("debug"), info: write("info"), warn: write("warn") };
}
