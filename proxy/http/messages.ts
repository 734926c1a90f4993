/** What an http worker is told beyond what engine workers are (../engine/messages.ts). Structured-cloneable. */
import type { GateShare } from "../../pool/gate.ts";
import type { KeeperShare } from "../../pool/keeper-handle.ts";

export interface HttpWorkerData {
  /** Its number among all workers, engine workers first. */
  readonly index: number;
  readonly descriptors: GateShare;
  readonly counters: SharedArrayBuffer;
  readonly keeper: KeeperShare | undefined;
  readonly logLevel: string;
  /** Access lines for people, not for programs. */
  readonly isReadable: boolean;
}

/** PEM texts, checked, and whom they are for. */
export interface CertificateShare {
  readonly cert: string;
  readonly key: string;
  /** `example.com` or `*.example.com`. */
  readonly names: readonly string[];
}

export interface RouteShare {
  readonly host: string;
  readonly pathPrefix: string;
  readonly upstream: string;
  readonly timeoutMs: number;
  readonly retries: number;
  /** Where its requests are counted. */
  readonly route: number;
}

/** What makes a listener's share one of an http listener. */
export interface HttpShare {
  /** The last one is for whatever no other is for. */
  readonly routes: readonly RouteShare[];
  /** None: plain HTTP. The first is for clients that name no host, or one that nobody is. */
  readonly certificates: readonly CertificateShare[];
}

/** How http workers speak to an upstream. */
export interface HttpUpstreamShare {
  readonly tls:
    | {
        readonly servername: string | null;
        /** PEM text. */
        readonly ca: string | null;
        readonly rejectUnauthorized: boolean;
      }
    | undefined;
  /** How long an idle connection is kept; 0: none is. */
  readonly reuseMs: number;
  /** What is sent as Host; undefined: what the client sent. */
  readonly hostHeader: string | undefined;
}

/** Of an upstream that nothing is known of. */
export const PLAIN_HTTP: HttpUpstreamShare = { tls: undefined, reuseMs: 0, hostHeader: undefined };
