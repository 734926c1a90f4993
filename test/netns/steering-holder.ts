// Steers ports for the upstream on a port of 127.0.0.1 until it is killed; prints one of them.
import { openHearing, openSteering } from "../../pool/hearing.ts";
import { loopback, silent } from "./half-open.ts";

const steered = openSteering("steered", openHearing("steered", true, silent), silent);
steered?.add({ address: loopback(4), port: Number(process.argv[2]) });
console.log(steered?.take());
setInterval(() => {}, 1_000);
