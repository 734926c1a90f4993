/** SO_MARK of everything the proxy sends to upstreams, raw packets too: what must never be intercepted. */
export const OWN_MARK = 0x6170_6931;

/** What TPROXY rules mark, and the routing table, and priority of the rule, that deliver it on this host. */
export const TPROXY_MARK = 0x6170_6932;
export const TPROXY_TABLE = 24_945;
