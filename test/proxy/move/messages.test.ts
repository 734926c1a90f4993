// Goal: sessions arrive as they were sent, their lists of options once a message; what names a list that is not there, or is
// no list, is refused.
// Method: any sessions (fast-check), and messages written by hand.
import { encode, Tagged } from "cborg";
import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { SessionImage } from "../../../proxy/checkpoint/images/image-schema.ts";
import { encodeMessage, MoveError, parseMessage } from "../../../proxy/move/link.ts";
import { anySession } from "../checkpoint/session-images.ts";

const [session] = fc.sample(anySession, { numRuns: 1, seed: 7 }) as [SessionImage];
const arrive = (images: SessionImage[]): SessionImage[] =>
  parseMessage(encodeMessage({ kind: "sessions", images }), ["sessions"]).images;
const withOptions = (options: unknown): Uint8Array => {
  const { client } = session;
  const image = { ...session, client: { ...client, live: { ...client.live, options } } };
  return encode({ kind: "sessions", images: [image] });
};

const messages = suite("move: messages");

messages("given any sessions, then they arrive as they were", () => {
  fc.assert(
    fc.property(fc.array(anySession, { maxLength: 3 }), (images) =>
      assert.equal(arrive(images), structuredClone(images)),
    ),
    { numRuns: 100 },
  );
});

messages("given sessions that share a list, then it travels once and they share it there", () => {
  const images = Array.from({ length: 10 }, () => session);
  const [first, ...others] = arrive(images);
  for (const other of others) assert.is(other.client.live?.options, first!.client.live?.options);
  const options = encode(session.client.live?.options).length;
  const alone = encode({ kind: "sessions", images }).length;
  const shared = encodeMessage({ kind: "sessions", images }).length;
  assert.ok(shared < alone - 8 * options, `${shared} bytes instead of ${alone}, a list has ${options}`);
});

messages("given the number of a list that is not there, then it is refused", () => {
  assert.throws(() => parseMessage(withOptions(new Tagged(29, 1)), ["sessions"]), /not there/);
});

for (const [given, options] of [
  ["a shared value that is no list", new Tagged(28, { name: "IP_TTL" })],
  ["a shared list with an option that is none", new Tagged(28, [{ name: "SO_DEBUG", value: 1 }])],
  ["a list twice the same", [1, 2].map(() => ({ name: "IP_TTL", value: 64 }))],
] as const) {
  messages(`given ${given}, then the message names the field`, () => {
    assert.throws(
      () => parseMessage(withOptions(options), ["sessions"]),
      (error: unknown) =>
        error instanceof MoveError && /wrong at images\.0\.client\.live\.options/.test(error.message),
    );
  });
}

messages.run();
