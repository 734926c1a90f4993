/** An origin that keeps an idle connection for 1 s. Prints its port once it listens. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

const server = createServer({ keepAliveTimeout: 1_000 }, (request, response) => {
  request.resume().on("end", () => response.end("ok"));
});
server.listen(0, "10.77.0.2", 1_024, () => process.send?.((server.address() as AddressInfo).port));
