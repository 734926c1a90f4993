// Goal: connections that stream both ways at full speed survive checkpoints at random moments: every byte once and
// in order, no reset, no FIN, and on the wire no clock or window edge that goes back.
// Method: sockets between two hosts of the lab; one end of all is frozen, dumped, closed and restored, while the
// link watches every segment. `npm run soak -- repair` does it with 200 of them.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { streamThroughCheckpoints } from "./repair-streams.ts";

const CONNECTIONS = 20;
const CHECKPOINTS = 8;

const streams = suite("repair: streams through checkpoints");

streams("given 20 streams and 8 checkpoints, then nothing is lost, doubled or said twice", async () => {
  const result = await streamThroughCheckpoints(CONNECTIONS, CHECKPOINTS);
  const {
    segments,
    bytes,
    unfinished,
    guardLeft,
    resets = 0,
    fins = 0,
    clocksBack = 0,
    edgesBack = 0,
  } = result;
  assert.equal(
    { unfinished, guardLeft, resets, fins, clocksBack, edgesBack },
    { unfinished: 0, guardLeft: 0, resets: 0, fins: 0, clocksBack: 0, edgesBack: 0 },
  );
  assert.ok(segments > 10_000 && bytes > 10_000_000, `${segments} segments, ${bytes} bytes`);
});

streams.run();
