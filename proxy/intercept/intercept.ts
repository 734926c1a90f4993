/** Puts interception into the kernel and takes it out: nftables rules in a table of our own, and for TPROXY a route. */
import type { Config } from "../../config/schema.ts";
import { EAFNOSUPPORT } from "../../native/abi/errno.ts";
import { SyscallError } from "../../native/errno.ts";
import { openNft } from "../../native/guard/nft.ts";
import { FEED_MARK } from "../../native/guard/ruleset.ts";
import { addMarkedRoute, type MarkedRoute, removeMarkedRoute } from "../../native/net/policy-route.ts";
import { TPROXY_MARK, TPROXY_TABLE } from "./marks.ts";
import { deliveredFamilies, interceptCommands, REMOVE_COMMANDS, TRIALS } from "./ruleset.ts";

const FAMILIES = [4, 6] as const;

/** What is delivered here although its address is another host's: what rules marked, and what a restore has arrive. */
const MARKS = [TPROXY_MARK, FEED_MARK] as const;

const routesOf = (family: 4 | 6): readonly MarkedRoute[] =>
  MARKS.map((mark) => ({ family, mark, table: TPROXY_TABLE }));

/** What apply() does, for people: `nft -f` takes it; the routes are comments in it. */
export function printInterception(config: Config): string {
  const routes = deliveredFamilies(config).flatMap((family) => [
    `# ip -${family} route add local default dev lo table ${TPROXY_TABLE} proto static`,
    ...MARKS.map(
      (mark) => `# ip -${family} rule add fwmark ${mark} lookup ${TPROXY_TABLE} priority ${TPROXY_TABLE}`,
    ),
  ]);
  return [...routes, interceptCommands(config)].join("\n");
}

/**
 * Intercepts for this configuration from now on, and for no other; all rules at once. Throws GuardError, SyscallError
 * EPERM without CAP_NET_ADMIN, RangeError for a listener on port 0.
 */
export function applyInterception(config: Config): void {
  const commands = interceptCommands(config);
  const routed = deliveredFamilies(config);
  for (const family of routed) for (const route of routesOf(family)) addMarkedRoute(route);
  run(commands);
  for (const family of FAMILIES) if (!routed.includes(family)) removeRoute(family);
}

/** Intercepts nothing any more. Throws as applyInterception(). */
export function removeInterception(): void {
  run(REMOVE_COMMANDS);
  for (const family of FAMILIES) removeRoute(family);
}

/** What this kernel refuses of either method; every rule is gone again in the same transaction. Throws GuardError. */
export function tryInterception(): readonly { readonly method: string; readonly reason: string }[] {
  using nft = openNft();
  return Object.entries(TRIALS).flatMap(([method, commands]) => {
    const result = nft.run(commands);
    return result.ok ? [] : [{ method, reason: result.error.message }];
  });
}

function removeRoute(family: 4 | 6): void {
  try {
    for (const route of routesOf(family)) removeMarkedRoute(route);
  } catch (error) {
    if (!(error instanceof SyscallError && error.errno === EAFNOSUPPORT)) throw error;
  }
}

function run(commands: string): void {
  using nft = openNft();
  const result = nft.run(commands);
  if (!result.ok) throw result.error;
}
