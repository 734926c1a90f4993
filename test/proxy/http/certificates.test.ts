// Goal: a client gets the certificate for the name it asks for; what SIGHUP finds in the files is used from then on, and
// what it cannot use changes nothing and is said; TLS to the upstream is checked.
// Method: certificates made with openssl, real TLS clients, a TLS upstream.

import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:https";
import { type AddressInfo, connect as connectPlain } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { makeCertificate } from "../../library/origin.ts";
import { fileOf } from "../command.ts";
import { HttpProxy } from "./http-proxy.ts";
import { statusesOf } from "./raw-client.ts";

/** Writes the two files of a certificate; their names. */
function files(name: string, hosts: readonly string[]): { readonly cert: string; readonly key: string } {
  const { cert, key } = makeCertificate(hosts);
  return { cert: fileOf(`${name}.pem`, cert), key: fileOf(`${name}.key`, key) };
}

/** The common name of the certificate that a client is shown. */
async function shownTo(port: number, servername: string): Promise<string> {
  const socket: TLSSocket = connect({ port, host: "127.0.0.1", servername, rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const { subject } = socket.getPeerCertificate();
  socket.destroy();
  return String(subject.CN);
}

const certificates = suite("http: certificates");

certificates("given several certificates, then the name decides, and SIGHUP reads them again", async () => {
  const [a, b] = [files("a", ["a.test"]), files("b", ["*.b.test"])];
  const config = `
listeners:
  - name: web
    bind: "127.0.0.1:0"
    mode: http
    upstream: o
    tls: [{ cert: ${a.cert}, key: a.key }, { cert: b.pem, key: b.key, names: ["*.b.test", c.test] }]
upstreams: { o: { servers: [{ address: "127.0.0.1:9" }] } }`;
  const proxy = await HttpProxy.start(config);
  const port = proxy.port("web");
  assert.is(await shownTo(port, "a.test"), "a.test");
  assert.is(await shownTo(port, "x.b.test"), "*.b.test");
  assert.is(await shownTo(port, "c.test"), "*.b.test");
  assert.is(await shownTo(port, "other.test"), "a.test", "the first for whom nobody is");

  files("a", ["new.test"]);
  await proxy.reload(config);
  assert.is(await shownTo(port, "new.test"), "new.test", "although only the file changed");

  writeFileSync(b.key, makeCertificate(["*.b.test"]).key);
  const refused = await proxy.reload(config, "configuration not reloaded, the old one stays");
  assert.match(String(refused.problems), "b.pem: the key is not that of the certificate");
  assert.is(await shownTo(port, "x.b.test"), "*.b.test", "the old one stays");
  await proxy.stop();
});

certificates("given a file that is missing at the start, then it does not start and says why", async () => {
  const error = await HttpProxy.start(`
listeners: [{ name: web, bind: "127.0.0.1:0", mode: http, upstream: o, tls: [{ cert: none.pem, key: none.key }] }]
upstreams: { o: { servers: [{ address: "127.0.0.1:9" }] } }`).catch((reason: Error) => reason);
  assert.match(String(error), "listener web: none.pem: there is no such file");
});

certificates("given a TLS upstream, then it is trusted only with the right authority and name", async () => {
  const { cert, key } = makeCertificate(["origin.test"]);
  const server = createServer({ cert, key }, (_, response) => void response.end("ok")).listen(0, "127.0.0.1");
  server.on("tlsClientError", () => {});
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const ca = fileOf("authority.pem", cert);
  const names = ["right", "reused", "anything", "untrusted", "misnamed"];
  const tls = [
    `tls: { ca: ${ca}, servername: origin.test }`,
    `tls: { ca: ${ca}, servername: origin.test }, reuse: 5s`,
    "tls: { rejectUnauthorized: false }",
    "tls: { servername: origin.test }",
    `tls: { ca: ${ca}, servername: other.test }`,
  ];
  const proxy = await HttpProxy.start(`
listeners:
${names.map((name) => `  - { name: ${name}, bind: "127.0.0.1:0", mode: http, upstream: ${name} }`).join("\n")}
upstreams:
${names.map((name, at) => `  ${name}: { servers: [{ address: "127.0.0.1:${port}" }], ${tls[at]} }`).join("\n")}`);
  const bytes = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  const statuses: number[] = [];
  for (const name of names) statuses.push(...(await statusesOf(proxy.port(name), bytes)));
  assert.equal(statuses, [200, 200, 200, 502, 502]);
  assert.equal(await statusesOf(proxy.port("reused"), bytes), [200]);
  await proxy.logged("request", 6);
  assert.is(proxy.requests.at(-1)!.connect, "reused");
  await proxy.stop();
  server.close();
});

certificates("given plain bytes at a TLS listener, then it goes on with others", async () => {
  files("plain", ["plain.test"]);
  const proxy = await HttpProxy.start(`
listeners: [{ name: web, bind: "127.0.0.1:0", mode: http, upstream: o, tls: [{ cert: plain.pem, key: plain.key }] }]
upstreams: { o: { servers: [{ address: "127.0.0.1:9" }] } }`);
  const socket = connectPlain(proxy.port("web"), "127.0.0.1");
  socket.on("error", () => {}).resume();
  socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await once(socket, "close");
  assert.is(await shownTo(proxy.port("web"), "plain.test"), "plain.test");
  assert.is(await proxy.stop(), 0);
});

certificates.run();
