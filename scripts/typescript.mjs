// @ts-check
// Lets Node run this repository's TypeScript without a build: node --import ./scripts/typescript.mjs FILE.ts.
// tsx's own --import registers itself on the main thread only; this one does in worker threads as well.
import { register } from "tsx/esm/api";

register();
