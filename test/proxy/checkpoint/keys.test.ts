// Goal: the pair serves both ends of mutual TLS, nobody else's does, and nothing is overwritten or readable by others.
// Method: real TLS over loopback between two hosts with the pair, and one with another pair.

import { once } from "node:events";
import * as fs from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, createServer } from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { KEYS_NAME, type KeyFiles, makeKeys } from "../../../proxy/checkpoint/keys.ts";
import { AccelproxyError } from "../../../proxy/errors.ts";

const PATIENCE_MS = 5_000;

const root = fs.mkdtempSync(join(tmpdir(), "accelproxy-keys-"));
process.on("exit", () => fs.rmSync(root, { recursive: true, force: true }));

const isError =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof AccelproxyError && error.code === code;

function identity({ keyFile, certificateFile }: KeyFiles) {
  const cert = fs.readFileSync(certificateFile);
  return { key: fs.readFileSync(keyFile), cert, ca: cert };
}

/** What the client reads from the server, or the error that either meets. */
async function talk(server: KeyFiles, client: KeyFiles): Promise<string> {
  const options = { ...identity(server), requestCert: true, rejectUnauthorized: true };
  const listener = createServer(options, (socket) => void socket.end("welcome")).listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  const socket = connect({ port, host: "127.0.0.1", servername: KEYS_NAME, ...identity(client) });
  try {
    return await new Promise((resolve) => {
      const refuse = (error: Error): void => resolve(`refused: ${error.message}`);
      listener.on("tlsClientError", refuse);
      socket.on("error", refuse);
      socket.on("data", (data) => resolve(data.toString()));
      socket.setTimeout(PATIENCE_MS, () => resolve("silence"));
    });
  } finally {
    socket.destroy();
    listener.close();
  }
}

const keys = suite("keys");

keys(
  "given one pair on both hosts, then they talk; given two pairs, then neither listens to the other",
  async () => {
    const [pair, other] = [makeKeys(join(root, "pair")), makeKeys(join(root, "other"))];
    assert.is(await talk(pair, pair), "welcome");
    assert.match(await talk(pair, other), /^refused: /);
    const impostor = { keyFile: other.keyFile, certificateFile: other.certificateFile };
    assert.match(await talk(impostor, pair), /^refused: /);
  },
);

keys("given new keys, then only their owner can read them", () => {
  const umask = process.umask(0);
  const dir = join(root, "a", "b");
  const { keyFile, certificateFile } = makeKeys(dir);
  process.umask(umask);
  assert.equal(
    [dir, keyFile, certificateFile].map((path) => fs.statSync(path).mode & 0o777),
    [0o700, 0o600, 0o600],
  );
  assert.equal(fs.readdirSync(dir).sort(), ["move.crt", "move.key"]);
});

for (const name of ["move.key", "move.crt"]) {
  keys(`given a ${name} already, then nothing is touched`, () => {
    const dir = fs.mkdtempSync(join(root, "x"));
    fs.writeFileSync(join(dir, name), "mine");
    assert.throws(() => makeKeys(dir), isError("ACCEL_KEYS_EXIST"));
    assert.equal(fs.readdirSync(dir), [name]);
    assert.is(fs.readFileSync(join(dir, name), "utf8"), "mine");
  });
}

for (const [given, openssl, wanted] of [
  ["no openssl", "no-such-program", /apt-get install openssl/],
  ["an openssl that fails", "false", /does not sign/],
] as const) {
  keys(`given ${given}, then it is told, and no file is left`, () => {
    const dir = join(root, "none");
    assert.throws(
      () => makeKeys(dir, openssl),
      (error: unknown) =>
        error instanceof AccelproxyError && error.code === "ACCEL_KEYS_OPENSSL" && wanted.test(error.message),
    );
    assert.equal(fs.readdirSync(dir), []);
  });
}

keys("given a directory that cannot be, then it is told", () => {
  fs.writeFileSync(join(root, "file"), "");
  assert.throws(() => makeKeys(join(root, "file", "dir")), isError("ACCEL_KEYS_WRITE"));
});

keys.run();
