/** Every variant has one colour in all plots: ours stand out, the peers are told apart by hue. */
const COLOURS: Readonly<Record<string, string>> = {
  direct: "#666666",
  "direct, TCP Fast Open": "#b0b0b0",
  accelproxy: "#d62728",
  "accelproxy, epoll": "#ff9896",
  "accelproxy, accelerated": "#d62728",
  "accelproxy, acceleration off": "#f4a3a3",
  "accelproxy, epoll, acceleration off": "#fbd5d5",
  "HAProxy http, reuse never": "#1f77b4",
  "HAProxy http, reuse": "#8fc1e6",
  "HAProxy tcp": "#1f77b4",
  "nginx stream": "#2ca02c",
  "nginx http, keepalive": "#98df8a",
  "Node net": "#9467bd",
};

/** A vega-lite scale for those of the variants that occur, in this order. */
export function colourScale(variants: Iterable<string>): { domain: string[]; range: string[] } {
  const present = new Set(variants);
  const known = Object.keys(COLOURS).filter((name) => present.has(name));
  const others = [...present].filter((name) => !(name in COLOURS));
  const domain = [...known, ...others];
  return { domain, range: domain.map((name) => COLOURS[name] ?? "#8c564b") };
}

/** What this project does, among what it is compared with. */
const OURS = new Set(["system calls", "io_uring chain", "take() of the pool"]);

export const isOurs = (variant: string): boolean => variant.startsWith("accelproxy") || OURS.has(variant);
