/** The library's test origin as a process of its own, told what to do over IPC. */
import { type Certificate, Origin, type Seen } from "../library/origin.ts";

export type ToOrigin =
  | { readonly kind: "start"; readonly host: string; readonly certificate: Certificate }
  | { readonly kind: "forget" | "seen" };

export type FromOrigin =
  | { readonly kind: "up" | "forgotten"; readonly ports: Origin["ports"] }
  | { readonly kind: "seen"; readonly seen: Seen };

let origin: Origin | undefined;

async function obey(message: ToOrigin): Promise<FromOrigin> {
  if (message.kind === "start") {
    origin = await Origin.start(message.host, message.certificate);
    return { kind: "up", ports: origin.ports };
  }
  if (origin === undefined) throw new Error("not started");
  if (message.kind === "seen") return { kind: "seen", seen: origin.seen };
  await origin.forget();
  return { kind: "forgotten", ports: origin.ports };
}

process.on("message", (message) => {
  void obey(message as ToOrigin).then((answer) => process.send?.(answer));
});
