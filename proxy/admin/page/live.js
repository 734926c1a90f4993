// @ts-check
// The server makes the page; this fetches it again and again, and changes what differs in place, so that focus,
// selection and scroll position stay. Without it the page is complete, and is fetched anew by hand.

const INTERVAL_MS = 1_000;
const LIMIT_MS = 5_000;

/** Says so when the proxy cannot be asked, and when it can again. */
const notice = /** @type {HTMLElement} */ (document.getElementById("notice"));

async function refresh() {
  try {
    const response = await fetch(location.pathname, { signal: AbortSignal.timeout(LIMIT_MS) });
    if (!response.ok) throw new Error(`it answers ${response.status}`);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const part of ["about", "live"]) {
      const [from, to] = [document.getElementById(part), fresh.getElementById(part)];
      if (from && to) become(from, to);
    }
    say("");
  } catch {
    say("The proxy does not answer. What is shown was true before; trying again every second.");
  }
}

/** @param {string} text */
function say(text) {
  if (notice.textContent === text) return;
  notice.textContent = text;
  notice.hidden = text === "";
}

/**
 * Makes one element like another.
 *
 * @param {Element} from
 * @param {Element} to
 */
function become(from, to) {
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  const [ours, theirs] = [[...from.childNodes], [...to.childNodes]];
  const isSame =
    ours.length === theirs.length && ours.every((node, at) => node.nodeName === theirs[at]?.nodeName);
  if (!isSame) {
    from.replaceChildren(...theirs);
    return;
  }
  for (const [at, node] of ours.entries()) {
    const other = /** @type {Node} */ (theirs[at]);
    if (node instanceof Element && other instanceof Element) become(node, other);
    else if (node.nodeValue !== other.nodeValue) node.nodeValue = other.nodeValue;
  }
}

/** One request at a time, and none while nobody looks. */
async function watch() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    if (document.hidden) {
      await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    }
    await refresh();
  }
}

watch();
