/**
 * The states of all servers and the lines of all upstreams, as the main thread keeps them: they outlive a reload, so
 * that a server that is in the old configuration and in the new one goes on as it was.
 */
import { type Endpoint, formatEndpoint } from "../../native/address.ts";
import { Line, type LineShare } from "./line.ts";
import { ServerState } from "./server-state.ts";

interface Held {
  readonly state: ServerState;
  holders: number;
}

export class ServerStates {
  readonly #wakeFds: SharedArrayBuffer;
  readonly #lines = new Map<string, LineShare>();
  readonly #states = new Map<string, Held>();

  /** Lines wake the threads that `wakeFds` names. */
  constructor(wakeFds: SharedArrayBuffer) {
    this.#wakeFds = wakeFds;
  }

  /** The line of an upstream, the same as long as the process runs. */
  line(upstream: string): LineShare {
    const line = this.#lines.get(upstream) ?? Line.create(this.#wakeFds);
    this.#lines.set(upstream, line);
    return line;
  }

  /** The state of a server, until as many have let it go and its last session has ended. */
  hold(upstream: string, server: Endpoint): ServerState {
    const key = keyOf(upstream, server);
    const held = this.#states.get(key) ?? { state: new ServerState(), holders: 0 };
    held.holders += 1;
    this.#states.set(key, held);
    return held.state;
  }

  letGo(upstream: string, server: Endpoint): void {
    const held = this.#states.get(keyOf(upstream, server));
    if (held) held.holders -= 1;
    for (const [key, { state, holders }] of this.#states) {
      if (holders === 0 && state.active === 0) this.#states.delete(key);
    }
  }
}

function keyOf(upstream: string, server: Endpoint): string {
  return `${upstream} ${formatEndpoint(server)}`;
}
