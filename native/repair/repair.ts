/** The repair core on descriptors, as the package offers it: "accelproxy/repair". */
export { type Guard, NftGuard } from "../guard/guard.ts";
export { GuardError, type GuardErrorCode } from "../guard/guard-error.ts";
export { dump, type Known, readOptions } from "./dump.ts";
export { abandon, discard, freeze, resume } from "./freeze.ts";
export type { Held } from "./held.ts";
export { type LiveState, TCP_STATES, type TcpEnd, type TcpImage, type TcpState } from "./image.ts";
export { RepairKit } from "./kit.ts";
export { OPTION_ROWS, type OptionName, type OptionValue } from "./options.ts";
export { isPortChosen } from "./port.ts";
export { RepairError, type RepairErrorCode } from "./repair-error.ts";
export { restore } from "./restore-images.ts";
