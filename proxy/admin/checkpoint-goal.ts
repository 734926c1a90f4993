/** Body of POST /checkpoint: where the sessions shall go. */
import { isAbsolute } from "node:path";
import * as z from "zod";

const path = z.string().refine(isAbsolute);

const goalSchema = z.union([
  z.strictObject({ dir: path }),
  z.strictObject({
    to: z.strictObject({ host: z.string().min(1).max(255), port: z.int().min(1).max(65_535), keys: path }),
  }),
]);

export type CheckpointGoal = z.infer<typeof goalSchema>;

/** Undefined for a body that is none. */
export function readGoal(body: string): CheckpointGoal | undefined {
  try {
    return goalSchema.safeParse(JSON.parse(body)).data;
  } catch {
    return undefined;
  }
}
