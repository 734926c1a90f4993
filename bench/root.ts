import { extname } from "node:path";
import { fileURLToPath } from "node:url";

/** Folder of package.json, with a slash at the end, whether this runs from the sources or from dist/. */
export const root = fileURLToPath(
  new URL(extname(import.meta.url) === ".ts" ? "../" : "../../", import.meta.url),
);
