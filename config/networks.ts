import { isIPv4, isIPv6 } from "node:net";
import { bad, good, type Parsed, show } from "./problems.ts";

/** Addresses with a common beginning, in its shortest spelling; the bits behind `prefixLength` are zero. */
export type Network = { readonly address: string; readonly prefixLength: number };

/** A network, and one port of it where there is one. */
export type Target = Network & { readonly port: number | null };

const example = "write a network such as 10.0.0.0/8 or 2001:db8::/32, or one address";
const targetExample =
  "write a network, with or without a port: 10.0.0.0/8, 10.0.0.0/8:443 or [2001:db8::]/32:443";

/** Reads a network: `10.0.0.0/8`, `2001:db8::/32`, or one address. */
export function parseNetwork(input: unknown): Parsed<Network> {
  if (typeof input !== "string") return bad(`${show(input)} is not a network`, example);
  const [text = "", length, ...rest] = input.split("/");
  const bits = isIPv4(text) ? 32 : isIPv6(text) && !text.includes("%") ? 128 : undefined;
  if (bits === undefined || rest.length > 0) return bad(`${show(input)} is not a network`, example);
  const prefixLength = length === undefined ? bits : /^\d{1,3}$/.test(length) ? Number(length) : Number.NaN;
  if (!(prefixLength <= bits)) {
    return bad(`${show(input)} has the prefix length ${show(length)}`, `write one from 0 to ${bits}`);
  }
  const address = bits === 32 ? text : new URL(`http://[${text}]`).hostname.slice(1, -1);
  const network = networkOf(address, prefixLength);
  if (network === address) return good({ address, prefixLength });
  return bad(
    `${show(input)} has bits set behind its prefix`,
    `write ${formatNetwork({ address: network, prefixLength })} for the network, or ${address} for the one address`,
  );
}

/** Reads where connections go: a network as above, or with a port `10.0.0.0/8:443`, `[2001:db8::]/32:443`. */
export function parseTarget(input: unknown): Parsed<Target> {
  if (typeof input !== "string") return bad(`${show(input)} is no network with a port`, targetExample);
  const [, bracketed, plain, length = "", digits] =
    /^(?:\[([^[\]]*)\]|([^[\]]*?))(\/[^:\]]*)?(?::(\d{1,5}))?$/.exec(input) ?? [];
  const withoutPort = parseNetwork(input);
  if (withoutPort.ok) return good({ ...withoutPort.value, port: null });
  const port = digits === undefined ? null : Number(digits);
  if (port !== null && (port < 1 || port > 65_535)) {
    return bad(`${show(input)} has the port ${port}`, "write a port from 1 to 65535");
  }
  const address = bracketed ?? plain;
  if (address === undefined) return bad(`${show(input)} is no network with a port`, targetExample);
  const network = parseNetwork(`${address}${length}`);
  if (!network.ok) return digits === undefined ? withoutPort : network;
  return good({ ...network.value, port });
}

/** The reverse of parseTarget. */
export function formatTarget({ port, ...network }: Target): string {
  if (port === null) return formatNetwork(network);
  const { address, prefixLength } = network;
  return `${address.includes(":") ? `[${address}]` : address}/${prefixLength}:${port}`;
}

/** The reverse of parseNetwork. */
export function formatNetwork({ address, prefixLength }: Network): string {
  return `${address}/${prefixLength}`;
}

/** The address with all bits behind the prefix cleared. */
function networkOf(address: string, prefixLength: number): string {
  if (isIPv4(address)) return groupsOf(address.split(".").map(Number), 8, prefixLength).join(".");
  // The URL parser writes each group out, or leaves a run of zeros out.
  const [head = "", tail = ""] = address.split("::");
  const [before, after] = [head, tail].map((side) => side.split(":").filter((group) => group !== ""));
  const zeros = address.includes("::") ? 8 - before!.length - after!.length : 0;
  const words = [...before!, ...Array<string>(zeros).fill("0"), ...after!];
  const kept = groupsOf(
    words.map((group) => Number.parseInt(group, 16)),
    16,
    prefixLength,
  );
  return new URL(`http://[${kept.map((group) => group.toString(16)).join(":")}]`).hostname.slice(1, -1);
}

function groupsOf(groups: readonly number[], width: number, prefixLength: number): number[] {
  return groups.map((group, index) => {
    const cut = Math.min(width, Math.max(0, width * (index + 1) - prefixLength));
    return (group >> cut) << cut;
  });
}
