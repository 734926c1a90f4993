/**
 * What two hosts say to each other while sessions move, and who has them meanwhile.
 *
 *   source says   │ target says │ sessions are                          │ source dies        │ target dies
 *   ──────────────┼─────────────┼───────────────────────────────────────┼────────────────────┼──────────────────
 *   hello         │ ready       │ running at the source                 │ peers see the end  │ source goes on
 *   sessions … all│ staged      │ frozen at the source; at the target   │ target gives up;   │ source goes on
 *                 │ or refused  │ sockets as well, which nobody hears   │ peers see the end  │
 *   gone          │             │ at the target alone, which waits for  │ target goes on     │ peers see the end
 *                 │             │ their addresses, then goes on         │                    │
 *
 * "Peers see the end" is when a guard's time is over: both guards have one. A frame is its length, u32 BE, and CBOR.
 * Both rehearse between hello and ready (rehearsal.ts).
 */
import * as z from "zod";
import { sessionSchema } from "../checkpoint/images/image-schema.ts";
import { BATCH } from "./limits.ts";

export const PROTOCOL_VERSION = 3;

const count = z.int().min(0);
const line = z.string().max(1_000);

export const messageSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("hello"), version: count, program: line }),
  z.strictObject({ kind: z.literal("ready"), program: line }),
  z.strictObject({ kind: z.literal("sessions"), images: z.array(sessionSchema).max(BATCH) }),
  z.strictObject({ kind: z.literal("all"), sessions: count }),
  z.strictObject({ kind: z.literal("staged") }),
  z.strictObject({ kind: z.literal("refused"), why: line }),
  z.strictObject({ kind: z.literal("gone"), stoodMs: z.number().min(0) }),
]);
export type Message = z.infer<typeof messageSchema>;
