// @ts-check
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { runStep, SetupError } from "./child.mjs";

/**
 * A system tool: what to look for, and the Debian package that brings it. `service` names a daemon which the
 * package would enable; we want the program only.
 *
 * @typedef {{ name: string, package: string, service?: string, isPresent?: () => boolean }} Tool
 */

/** @type {readonly Tool[]} */
const demoTools = [
  { name: "ip", package: "iproute2" },
  { name: "nsenter", package: "util-linux" },
];

/** @type {readonly Tool[]} */
const testTools = [
  ...demoTools,
  { name: "ss", package: "iproute2" },
  { name: "unshare", package: "util-linux" },
  { name: "curl", package: "curl" },
  { name: "haproxy", package: "haproxy", service: "haproxy" },
  { name: "nginx", package: "nginx", service: "nginx" },
  { name: "nginx's stream module", package: "libnginx-mod-stream", isPresent: hasNginxStream },
  { name: "nft", package: "nftables" },
  { name: "tcpdump", package: "tcpdump" },
  { name: "chromium", package: "chromium" },
  { name: "promtool", package: "prometheus", service: "prometheus" },
];

/** @type {readonly Tool[]} */
const soakTools = [...testTools, { name: "iperf3", package: "iperf3" }];

/** @type {readonly Tool[]} */
const benchTools = [...demoTools, { name: "unshare", package: "util-linux" }];

/**
 * Peers, load tools and a C compiler: without one of them its rows are skipped.
 *
 * @type {readonly Tool[]}
 */
const benchPeers = [
  { name: "haproxy", package: "haproxy", service: "haproxy" },
  { name: "nginx", package: "nginx", service: "nginx" },
  { name: "nginx's stream module", package: "libnginx-mod-stream", isPresent: hasNginxStream },
  { name: "ab", package: "apache2-utils" },
  { name: "cc", package: "gcc" },
  {
    name: "the C library's headers",
    package: "libc6-dev",
    isPresent: () => existsSync("/usr/include/stdio.h"),
  },
];

/** What each purpose needs besides Node. */
const toolsOf = { demo: demoTools, test: testTools, soak: soakTools, bench: benchTools };

/** What it can do without. */
const optionalToolsOf = { demo: [], test: [], soak: [], bench: benchPeers };

/** @typedef {keyof typeof toolsOf} Purpose */

/**
 * Makes the system tools of a purpose available: nothing when all are there, else `apt-get install` as root.
 * Throws SetupError: exit 2 with the command to run when we are not root or there is no apt-get, exit 1 when
 * apt-get failed. For tools that the purpose can do without it only says so.
 *
 * @param {Purpose} purpose
 */
export function ensureTools(purpose) {
  installMissing(toolsOf[purpose]);
  try {
    installMissing(optionalToolsOf[purpose]);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`${error.message}\nset-up: going on without them`);
  }
}

/** @param {readonly Tool[]} tools */
function installMissing(tools) {
  const missing = tools.filter((tool) => !(tool.isPresent?.() ?? isCommand(tool.name)));
  if (missing.length === 0) return;
  const names = missing.map((tool) => tool.name).join(", ");
  const packages = [...new Set(missing.map((tool) => tool.package))];
  if (!isCommand("apt-get")) {
    throw new SetupError(
      `set-up: missing: ${names}. Install them with this system's package manager ` +
        `(the Debian packages are ${packages.join(" ")}), then run the same command again.`,
      2,
    );
  }
  if (process.getuid?.() !== 0) {
    const install = `sudo DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends`;
    throw new SetupError(
      `set-up: missing: ${names}. Run this, then the same command again:\n\n` +
        `  sudo apt-get update && ${install} ${packages.join(" ")}\n`,
      2,
    );
  }
  const services = missing.flatMap((tool) => (tool.service ? [tool.service] : []));
  console.error(`set-up: installing ${packages.join(" ")} with apt-get`);
  runStep(`apt-get install`, "sh", ["-c", installScript, "sh", ...packages], {
    DEBIAN_FRONTEND: "noninteractive",
    SERVICES: services.join(" "),
  });
}

/**
 * Installs "$@". The packages of nginx and haproxy start their daemon at once and at every boot, and a test run
 * must not open port 80 on somebody's machine. Two things keep them down: a policy-rc.d while apt-get runs
 * (invoke-rc.d(8); one that is there already stays as it is), and `disable` for the services that are new.
 * The shell removes the policy on every exit and signal; were it killed, the policy forbids nothing, because it
 * only counts while that shell lives.
 */
const installScript = `
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  printf '#!/bin/sh\\n# No services while accelproxy installs its test tools.\\n[ -d /proc/%s ] || exit 0\\nexit 101\\n' "$$" > "$policy"
  chmod 755 "$policy"
fi
apt-get update
apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"
for service in $SERVICES; do
  if command -v systemctl > /dev/null; then systemctl disable "$service" || :
  elif command -v update-rc.d > /dev/null; then update-rc.d "$service" disable || :
  fi
done
`;

/**
 * Whether a command exists, also where only root's PATH would look: Debian keeps ip, nft and nginx in sbin.
 *
 * @param {string} name
 */
function isCommand(name) {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.some((folder) => folder !== "" && existsSync(join(folder, name)));
}

/** Debian's nginx loads the module as a file; other builds have it inside and say so in `nginx -V`. */
function hasNginxStream() {
  if (existsSync("/usr/lib/nginx/modules/ngx_stream_module.so")) return true;
  const { stderr } = spawnSync("nginx", ["-V"], { encoding: "utf8" });
  return / --with-stream( |$)/m.test(stderr ?? "");
}
