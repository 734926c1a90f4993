/** Where a command writes, and what it exits with. */
export interface Output {
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
}

/** Exit codes of the public interface. */
export const EXIT = { done: 0, failed: 1, usage: 2, privilege: 77 } as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** An error as the one line that goes to stderr. Line breaks within would make it look like several. */
export function errorLine(message: string): string {
  return `accelproxy: ${message.replace(/\s*\n\s*/g, " ")}\n`;
}
