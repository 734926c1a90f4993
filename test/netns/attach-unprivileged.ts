// Attaches the program that is descriptor 3 to a socket of its own, and says with which capabilities.
import { readFileSync } from "node:fs";
import { attachProgram } from "../../native/bpf/objects.ts";
import { Fd } from "../../native/fd.ts";
import { newTcpSocket } from "../../native/net/tcp-socket.ts";

const effective = /^CapEff:\s+(\S+)/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
using socket = newTcpSocket(4, 0);
attachProgram(socket.number, new Fd(3));
console.log(`CapEff ${effective}, attached`);
