/**
 * GET /: the page for people, made anew for each request from what GET /status says. It is complete without
 * JavaScript; live.js fetches it again and changes what differs. It asks nobody but this server for anything.
 */
import { readFileSync } from "node:fs";
import type { Event } from "../../events.ts";
import type { ListenerStatus, PoolStatus, Readiness, Status } from "../../status.ts";
import {
  duration,
  grouped,
  hitRate,
  medianMs,
  milliseconds,
  poolEnds,
  poolState,
  share,
  spent,
} from "../../status-words.ts";
import { type BucketRow, histogramRows } from "./histogram.ts";
import { type Html, html } from "./html.ts";

/** No inline script or style, nothing from elsewhere, not in a frame, no form. */
export const PAGE_POLICY =
  "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** The files beside the page, by path. */
export const PAGE_FILES = {
  "/page.css": { type: "text/css; charset=utf-8", body: fileBeside("page.css") },
  "/live.js": { type: "text/javascript; charset=utf-8", body: fileBeside("live.js") },
} as const;

const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E" +
  "%3Cpath d='M2 8h8l-3-3 1.5-1.5L14 8l-5.5 4.5L7 11l3-3' fill='%230b6e5f'/%3E%3C/svg%3E";

/** The whole document. Pure. */
export function formatPage(status: Status, { reasons }: Readiness): string {
  const { version, uptimeMs, driver, workers, listeners, pools } = status;
  const isReady = reasons.length === 0;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>accelproxy</title>
<link rel="icon" href="${ICON}">
<link rel="stylesheet" href="page.css">
<script src="live.js" type="module"></script>
</head>
<body>
<header id="about">
<h1>accelproxy</h1>
<p class="about">${version}, up ${duration(uptimeMs)}, ${workers} ${workers === 1 ? "worker" : "workers"} on ${driver}</p>
<p class="state${isReady ? "" : " waits"}">${isReady ? "Ready" : "Not ready"}</p>
</header>
<main>
<p class="notice" id="notice" role="status" hidden></p>
<div id="live">
${reasons.map((reason) => html`<p class="notice">${sentence(reason)}</p>`)}
${figures(status)}
<h2 id="pools">Pools</h2>
${pools.length === 0 ? html`<p class="quiet">There are none: nothing is accelerated.</p>` : html`<ul class="pools">${pools.map(pool)}</ul>`}
<h2 id="listeners">Sessions</h2>
${listenerTable(listeners)}
<h2 id="histogram">Time to the first byte</h2>
${histogram(status)}
<h2 id="events">Recent events</h2>
${eventList(status.events)}
</div>
</main>
<footer><p>The same as <a href="status">JSON</a> and as <a href="metrics">metrics</a>.</p></footer>
</body>
</html>
`.text;
}

function figures({ saved, pools, listeners }: Status): Html {
  const hits = pools.reduce((sum, each) => sum + each.hits, 0);
  const misses = pools.reduce((sum, each) => sum + each.misses, 0);
  const active = listeners.reduce((sum, each) => sum + each.active, 0);
  return html`<dl class="figures">
<div><dt>round trips saved</dt><dd id="round-trips">${grouped(saved.roundTrips)}</dd></div>
<div><dt>of waiting saved</dt><dd>${spent(saved.seconds)}</dd></div>
<div><dt>of sessions found a half-open</dt><dd>${hitRate({ hits, misses })}</dd></div>
<div><dt>${active === 1 ? "session" : "sessions"} now</dt><dd>${grouped(active)}</dd></div>
</dl>`;
}

function pool(row: PoolStatus): Html {
  const { upstream, halfOpen, target, rttMs, hits, misses, replays } = row;
  const state = poolState(row);
  const filled = target === 0 ? 0 : Math.min(1, halfOpen / target);
  return html`<li class="card">
<h3>${upstream} <code>${poolEnds(row)}</code> <span class="level ${state === "ok" ? "ok" : "warning"}">${state}</span></h3>
<p class="gauge">${bar("accelerated", filled)}<span>${halfOpen} of ${target} half-open</span></p>
<dl class="facts">
<div><dt>hit rate</dt><dd>${hitRate(row)}</dd></div>
<div><dt>round trip</dt><dd>${rttMs === 0 ? "–" : `${rttMs.toFixed(1)} ms`}</dd></div>
<div><dt>hits</dt><dd>${grouped(hits)}</dd></div>
<div><dt>misses</dt><dd>${grouped(misses)}</dd></div>
<div><dt>replays</dt><dd>${grouped(replays)}</dd></div>
<div><dt>given up</dt><dd>${grouped(row.tainted + row.vanished + row.refused)}</dd></div>
</dl>
</li>
`;
}

function listenerTable(listeners: readonly ListenerStatus[]): Html {
  const row = ({ name, address, active, total }: ListenerStatus) =>
    html`<tr><th scope="row">${name}</th><td>${address}</td><td class="number">${grouped(active)}</td><td class="number">${grouped(total)}</td></tr>
`;
  return html`<div class="card"><table aria-labelledby="listeners">
<thead><tr><th scope="col">Listener</th><th scope="col">Address</th><th scope="col" class="number">Now</th><th scope="col" class="number">In all</th></tr></thead>
<tbody>${listeners.map(row)}</tbody>
</table></div>`;
}

function histogram({ firstByte: { accelerated, direct } }: Status): Html {
  const rows = histogramRows(accelerated, direct);
  if (rows.length === 0) return html`<p class="quiet">No session has had its first byte yet.</p>`;
  const medians = [
    ["accelerated", medianMs(accelerated)],
    ["in the ordinary way", medianMs(direct)],
  ] as const;
  const halves = medians.flatMap(([name, ms]) =>
    ms === undefined ? [] : [`${name} within about ${milliseconds(ms)}`],
  );
  const row = ({ label, accelerated: fast, direct: slow }: BucketRow) =>
    html`<tr><th scope="row">${label}</th><td>${bar("accelerated", fast)}</td><td class="number share">${share(fast)}</td><td>${bar("direct", slow)}</td><td class="number share">${share(slow)}</td></tr>
`;
  return html`<div class="card"><p>Half of the sessions had theirs ${halves.join(", ")}.</p>
<table class="histogram" aria-labelledby="histogram">
<thead><tr><th scope="col">Within</th><th scope="col" colspan="2"><span class="key accelerated"></span>Accelerated</th><th scope="col" colspan="2"><span class="key direct"></span>Ordinary</th></tr></thead>
<tbody>${rows.map(row)}</tbody>
</table></div>`;
}

function eventList(events: readonly Event[]): Html {
  if (events.length === 0) return html`<p class="quiet">Nothing has happened.</p>`;
  const item = ({ timeMs, level, text, times }: Event) => {
    const at = new Date(timeMs).toISOString();
    const again = times > 1 ? ` (${times} times)` : "";
    return html`<li><time datetime="${at}">${at.slice(0, 19).replace("T", " ")}</time><span class="level ${level}">${level}</span><span class="text">${text}${again}</span></li>
`;
  };
  return html`<ol class="events card">${events.map(item)}</ol>
<p class="quiet">Times are UTC, the newest comes first.</p>`;
}

/** A filled part of a whole; its number stands beside it in words. */
function bar(name: "accelerated" | "direct", part: number): Html {
  const width = `${(100 * part).toFixed(1)}%`;
  return html`<svg aria-hidden="true"><rect class="track" width="100%" height="100%"/><rect class="${name}" width="${width}" height="100%" rx="4"/></svg>`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function fileBeside(name: string): string {
  return readFileSync(new URL(`./${name}`, import.meta.url), "utf8");
}
