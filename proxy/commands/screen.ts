/** A terminal whose screen is drawn over and over: on a page of its own, without flicker, and given back at the end. */

const ENTER = "\x1b[?1049h\x1b[?25l"; // the other screen, no cursor
const LEAVE = "\x1b[?25h\x1b[?1049l";
const HOME = "\x1b[H";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";
const QUIT: ReadonlySet<string> = new Set(["q", "Q", "\x03", "\x04"]); // Ctrl-C and Ctrl-D, which a raw terminal passes on

export interface Terminal {
  readonly write: (text: string) => void;
  readonly size: () => { readonly columns: number; readonly rows: number };
  /** Passes keys on as they are pressed; what it returns ends that. */
  readonly onKey: (handler: (key: string) => void) => () => void;
}

export class Screen {
  readonly #terminal: Terminal;
  readonly #unwatch: () => void;

  /** Takes the screen; `quit` is called for q and Ctrl-C. */
  constructor(terminal: Terminal, quit: () => void) {
    this.#terminal = terminal;
    this.#unwatch = terminal.onKey((key) => {
      if (QUIT.has(key)) quit();
    });
    terminal.write(ENTER);
  }

  /** Draws over what was there, cut to the size of the screen, so that nothing moves but what changed. */
  draw(text: string): void {
    const { columns, rows } = this.#terminal.size();
    const lines = text.trimEnd().split("\n").slice(0, rows);
    const shown = lines.map((line) => line.slice(0, columns) + CLEAR_LINE).join("\r\n");
    this.#terminal.write(HOME + shown + CLEAR_BELOW);
  }

  close(): void {
    this.#unwatch();
    this.#terminal.write(LEAVE);
  }
}
