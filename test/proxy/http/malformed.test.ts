// Goal: what can be read in two ways never gets upstream: it is refused, or written anew in the one way we read it.
// Method: the cases' bytes into a real proxy, and behind it an origin that takes nothing that is not canonical.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { HttpProxy } from "./http-proxy.ts";
import { MALFORMED_CASES } from "./malformed-cases.ts";
import { statusesOf } from "./raw-client.ts";
import { StrictOrigin } from "./strict-origin.ts";

interface Context {
  origin: StrictOrigin;
  proxy: HttpProxy;
}

const malformed = suite<Context>("http: malformed requests");

malformed.before(async (context) => {
  context.origin = await StrictOrigin.start();
  context.proxy = await HttpProxy.start(`
listeners: [{ name: web, bind: "127.0.0.1:0", mode: http, upstream: o }]
upstreams: { o: { servers: [{ address: "127.0.0.1:${context.origin.port}" }], reuse: 5s } }`);
});

malformed.after(async ({ origin, proxy }) => {
  await proxy.stop();
  origin.close();
});

for (const { name, bytes, statuses, closes = false, sees } of MALFORMED_CASES) {
  const outcome = statuses.length === 0 ? "nothing" : statuses.join(", ");
  malformed(`given ${name}, then ${outcome}`, async ({ origin, proxy }) => {
    const count = Math.max(1, statuses.length);
    const got = await statusesOf(proxy.port("web"), bytes, { count, closes });
    const { requests, problems } = origin.take();
    assert.equal(problems, []);
    assert.equal(got, statuses);
    assert.is(requests.length, statuses.filter((status) => status === 200).length, "requests upstream");
    assert.not.ok(requests.some(({ target }) => target === "/smuggled"));
    if (sees) assert.ok(sees(requests[0]!), JSON.stringify([...requests[0]!.headers]));
  });
}

malformed("given all of them, then the proxy still serves", async ({ proxy }) => {
  const bytes = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
  assert.equal(await statusesOf(proxy.port("web"), bytes), [200]);
});

malformed.run();
