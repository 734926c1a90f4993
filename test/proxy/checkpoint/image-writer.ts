// Writes images into DIR: once with N sessions of SIZE queued bytes, printing what became of it; or, with N 0, one
// generation after the other, each with all sessions of one number, until it is killed.
import { writeImages } from "../../../proxy/checkpoint/images/image-file.ts";
import { AccelproxyError } from "../../../proxy/errors.ts";
import { sampleSession } from "./session-images.ts";

const GENERATION_SIZE = 40;

const [dir = "", count = "0", size = "0"] = process.argv.slice(2);
if (count === "0") {
  for (let generation = 1; ; generation++) {
    const sessions = Array.from({ length: GENERATION_SIZE }, (_, i) => {
      const session = sampleSession(i, 20_000);
      return { ...session, record: { ...session.record, serversTried: generation } };
    });
    writeImages(dir, sessions);
    if (generation === 1) console.log("writing");
  }
}
try {
  console.log(
    writeImages(
      dir,
      Array.from({ length: Number(count) }, (_, i) => sampleSession(i, Number(size))),
    ),
  );
} catch (error) {
  if (!(error instanceof AccelproxyError)) throw error;
  console.log(error.code, error.message);
}
