import { type Document, isScalar, visit, type YAMLError } from "yaml";

/** Where a person would look for an error. The parser finds a missing end only at the end of the text. */
export function errorOffset(document: Document, text: string, error: YAMLError): number {
  if (error.code === "RESOURCE_EXHAUSTION") return 0; // where the stack ended is an accident
  const [offset] = error.pos;
  if (!isMissingEnd(error)) return offset;
  let opening = offset;
  visit(document, {
    Node(_, node) {
      if (node.range == null || node.range[0] >= offset || node.range[2] < offset) return;
      const closing = closings[text.charAt(node.range[0])];
      const isOpen = isScalar(node) || text.charAt(node.range[1] - 1) !== closing;
      if (closing !== undefined && isOpen) opening = node.range[0];
    },
  });
  return opening;
}

const closings: Readonly<Record<string, string>> = { '"': '"', "'": "'", "[": "]", "{": "}" };

function isMissingEnd({ code, message }: YAMLError): boolean {
  return (code === "MISSING_CHAR" || code === "BAD_INDENT") && /^(Missing closing|Flow )/.test(message);
}

/** An error of the parser, found at `offset`, as a problem and what to write instead. */
export function explainSyntax(
  text: string,
  error: YAMLError,
  offset: number,
): { problem: string; remedy: string } {
  const line = text.slice(text.lastIndexOf("\n", offset - 1) + 1).split("\n", 1)[0]!;
  const ipv6 = /\[[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\]:\d+/.exec(line);
  if (error.code === "UNEXPECTED_TOKEN" && ipv6 !== null) {
    return { problem: "an IPv6 address without quotes reads as a list", remedy: `quote it: "${ipv6[0]}"` };
  }
  const opening = text.charAt(offset);
  const closing = closings[opening];
  if (isMissingEnd(error) && closing !== undefined) {
    return { problem: `the ${opening} is not closed`, remedy: `add the closing ${closing}` };
  }
  const [problem, remedy] = syntaxProblems[error.code] ?? [undefined, "correct the YAML here"];
  const message = error.message.replace(/\s+/g, " ");
  return { problem: problem ?? `${message.charAt(0).toLowerCase()}${message.slice(1)}`, remedy };
}

// The parser's own message where it says enough, else ours; then the remedy.
const syntaxProblems: Partial<
  Record<YAMLError["code"], readonly [problem: string | undefined, remedy: string]>
> = {
  BAD_DIRECTIVE: [undefined, "take the line out"],
  BAD_DQ_ESCAPE: [undefined, "use single quotes, or double the backslash"],
  BAD_INDENT: [undefined, "indent the keys of one mapping by the same number of spaces"],
  BAD_SCALAR_START: [undefined, "put the value in quotes"],
  BLOCK_AS_IMPLICIT_KEY: [
    "a mapping begins in the line of its key",
    "begin it in a line of its own, or put the value in quotes",
  ],
  MISSING_CHAR: [undefined, "check the indentation, and that a colon and a space follow each key"],
  MULTILINE_IMPLICIT_KEY: ["a key without a colon", "write KEY: VALUE, with a space after the colon"],
  MULTIPLE_DOCS: ["the file holds several documents", "keep one, without a second ---"],
  NON_STRING_KEY: ["the key is a list or a mapping", "write a plain word as the key"],
  RESOURCE_EXHAUSTION: ["the file is nested too deeply", "nest less deeply"],
  TAB_AS_INDENT: [undefined, "indent with spaces"],
  TAG_RESOLVE_FAILED: [undefined, "take the tag out"],
  UNEXPECTED_TOKEN: [undefined, "check the indentation and the quotes around here"],
};
