import koffi, { type LibraryHandle } from "koffi";

/** `nft_ctx_new(NFT_CTX_DEFAULT)`: include/nftables/libnftables.h. */
const NFT_CTX_DEFAULT = 0;

/** The calls of libnftables that we use, on one context. */
export interface NftContext {
  /** Runs commands as one transaction: all of them, or none. 0, or −1 with the reason in error(). */
  readonly run: (commands: string) => number;
  /** What the last run() complained about, and what it printed. */
  readonly error: () => string;
  readonly output: () => string;
  readonly free: () => void;
}

/**
 * A context of the library `file`, with a netlink socket in the calling thread's network namespace, where all its
 * commands act. `undefined` when there is no such library. Owner: the caller, until free().
 * The library ends the process when it cannot have a netlink socket: try one first.
 */
export function newNftContext(file: string): NftContext | undefined {
  const lib = load(file);
  if (lib === undefined) return undefined;
  const run = lib.func("int nft_run_cmd_from_buffer(void *ctx, const char *buf)");
  const error = lib.func("const char *nft_ctx_get_error_buffer(void *ctx)");
  const output = lib.func("const char *nft_ctx_get_output_buffer(void *ctx)");
  const free = lib.func("void nft_ctx_free(void *ctx)");
  const ctx = lib.func("void *nft_ctx_new(uint32_t flags)")(NFT_CTX_DEFAULT);
  lib.func("int nft_ctx_buffer_error(void *ctx)")(ctx);
  lib.func("int nft_ctx_buffer_output(void *ctx)")(ctx);
  return {
    run: (commands) => run(ctx, commands),
    error: () => error(ctx),
    output: () => output(ctx),
    free: () => free(ctx),
  };
}

function load(file: string): LibraryHandle | undefined {
  try {
    return koffi.load(file);
  } catch {
    return undefined; // koffi tells no reason apart from the text of dlerror(3)
  }
}
