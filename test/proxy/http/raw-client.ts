/** A client that sends bytes and hears bytes. */
import { connect } from "node:net";

const LIMIT_MS = 5_000;
/** After the last answer that was expected, for one that was not. */
const QUIET_MS = 30;

/** The statuses of all answers to `bytes`, as soon as there are `count` or the connection ends. 1xx are not counted. */
export function statusesOf(
  port: number,
  bytes: string,
  {
    count = 1,
    closes = false,
    limitMs = LIMIT_MS,
  }: { count?: number; closes?: boolean; limitMs?: number } = {},
): Promise<number[]> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    let heard = "";
    let quiet: NodeJS.Timeout | undefined;
    const statuses = (): number[] =>
      [...heard.matchAll(/HTTP\/1\.[01] ([2-5]\d\d)/g)].map(([, status]) => Number(status));
    const done = (): void => {
      clearTimeout(limit);
      clearTimeout(quiet);
      socket.destroy();
      resolve(statuses());
    };
    const limit = setTimeout(done, limitMs);
    socket.setEncoding("latin1").on("data", (text: string) => {
      heard += text;
      if (statuses().length < count) return;
      clearTimeout(quiet);
      quiet = setTimeout(done, QUIET_MS);
    });
    socket.on("error", done).on("close", done).on("end", done);
    socket.write(Buffer.from(bytes, "latin1"), () => {
      if (closes) setTimeout(done, QUIET_MS);
    });
  });
}
