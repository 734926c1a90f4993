/**
 * The three ways to choose a server, as pure functions over what is known of the servers. An index is a server; those
 * with `mayServe` 0 (out, full, or tried before) are passed over. The answer is an index, or -1 when none may serve.
 */

export const POLICIES = ["round-robin", "least-connections", "random"] as const;
export type Policy = (typeof POLICIES)[number];

/** What a choice is made of: a column per property, so that looking at the servers allocates nothing. */
export interface Candidates {
  readonly mayServe: Uint8Array;
  readonly weights: Int32Array;
  /** Sessions of each, of all threads. */
  readonly active: Int32Array;
  /** Smooth weighted round-robin: whose turn it is. Only byTurn() changes it. */
  readonly credits: Int32Array;
}

const NONE = -1;

export function candidates(weights: readonly number[]): Candidates {
  const size = weights.length;
  return {
    mayServe: new Uint8Array(size).fill(1),
    weights: Int32Array.from(weights),
    active: new Int32Array(size),
    credits: new Int32Array(size),
  };
}

/** Chooses by `policy`; `first` and `second` are random numbers from 0 up to 1, which only "random" looks at. */
export function chooseBy(policy: Policy, servers: Candidates, first: number, second: number): number {
  switch (policy) {
    case "round-robin":
      return byTurn(servers);
    case "least-connections":
      return leastConnections(servers);
    case "random":
      return betterOfTwo(servers, first, second);
  }
}

/**
 * Smooth weighted round-robin (nginx, ngx_http_upstream_get_peer): credit grows by weight each turn and falls by the
 * total when chosen, so that turns of a heavy server are spread evenly between the others'.
 */
function byTurn({ mayServe, weights, credits }: Candidates): number {
  let chosen = NONE;
  let total = 0;
  for (let index = 0; index < weights.length; index++) {
    if (mayServe[index] === 0) continue;
    total += weights[index]!;
    credits[index]! += weights[index]!;
    if (chosen === NONE || credits[index]! > credits[chosen]!) chosen = index;
  }
  if (chosen !== NONE) credits[chosen]! -= total;
  return chosen;
}

/** The least loaded; of several, the one whose turn it is, so that idle servers share what little comes. */
function leastConnections(servers: Candidates): number {
  const { mayServe, weights } = servers;
  let least = NONE;
  for (let index = 0; index < weights.length; index++) {
    if (mayServe[index] === 1 && (least === NONE || isLess(servers, index, least))) least = index;
  }
  if (least === NONE) return NONE;
  for (let index = 0; index < weights.length; index++) {
    if (mayServe[index] === 1 && isLess(servers, least, index)) mayServe[index] = 0;
  }
  return byTurn(servers);
}

/** The less loaded of two drawn by weight, which are different ones if there are two. */
function betterOfTwo(servers: Candidates, first: number, second: number): number {
  const one = draw(servers, first, NONE);
  const other = draw(servers, second, one);
  return other === NONE || !isLess(servers, other, one) ? one : other;
}

function draw({ mayServe, weights }: Candidates, random: number, except: number): number {
  let total = 0;
  for (let index = 0; index < weights.length; index++) {
    if (mayServe[index] === 1 && index !== except) total += weights[index]!;
  }
  let left = Math.floor(random * total);
  for (let index = 0; index < weights.length; index++) {
    if (mayServe[index] === 0 || index === except) continue;
    left -= weights[index]!;
    if (left < 0) return index;
  }
  return NONE;
}

/** Whether one more session would load `a` less than `b`, for their weights. */
function isLess({ weights, active }: Candidates, a: number, b: number): boolean {
  return (active[a]! + 1) * weights[b]! < (active[b]! + 1) * weights[a]!;
}
