import { readFileSync } from "node:fs";

// The source is one folder below package.json, the build two.
const PLACES = ["../package.json", "../../package.json"];

/** The version in package.json, of the source as of the built package. */
export const version: string = readVersion();

function readVersion(): string {
  for (const place of PLACES) {
    try {
      const found: unknown = JSON.parse(readFileSync(new URL(place, import.meta.url), "utf8"));
      if (isOurs(found)) return found.version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  throw new Error("package.json is missing beside the program");
}

function isOurs(value: unknown): value is { readonly version: string } {
  if (typeof value !== "object" || value === null || !("name" in value) || !("version" in value))
    return false;
  return value.name === "accelproxy" && typeof value.version === "string";
}
