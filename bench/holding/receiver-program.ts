/** Keeps a handshake socket open, as every keeper does, until its input ends; says when it is there. */
import { HandshakeReceiver } from "../../native/net/handshake-receiver.ts";

const DRAIN_INTERVAL_MS = 100;

const receiver = new HandshakeReceiver(4);
setInterval(() => void receiver.drain(() => {}), DRAIN_INTERVAL_MS);
process.stdin.resume().once("end", () => process.exit(0));
process.stdout.write(`${JSON.stringify({ phase: "listening" })}\n`);
