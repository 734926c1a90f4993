// image-writer.ts DIR [N SIZE]...: writes images into DIR, for each pair once with N sessions of SIZE queued bytes,
// printing what became of it; without one, generation after generation, each with all sessions of one number, until it
// is killed.
import { writeImages } from "../../../proxy/checkpoint/images/image-file.ts";
import { AccelproxyError } from "../../../proxy/errors.ts";
import { sampleSession } from "./session-images.ts";

const GENERATION_SIZE = 40;

const [dir = "", ...writes] = process.argv.slice(2);

function write(count: number, size: number): string {
  try {
    return writeImages(
      dir,
      Array.from({ length: count }, (_, i) => sampleSession(i, size)),
    );
  } catch (error) {
    if (!(error instanceof AccelproxyError)) throw error;
    return `${error.code} ${error.message}`;
  }
}

for (let at = 0; at < writes.length; at += 2) console.log(write(Number(writes[at]), Number(writes[at + 1])));
for (let generation = 1; writes.length === 0; generation++) {
  const sessions = Array.from({ length: GENERATION_SIZE }, (_, i) => {
    const session = sampleSession(i, 20_000);
    return { ...session, record: { ...session.record, serversTried: generation } };
  });
  writeImages(dir, sessions);
  if (generation === 1) console.log("writing");
}
