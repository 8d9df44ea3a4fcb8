import { expect, test } from "bun:test";
import { escaped, marked, typed, verbatim } from "../../src/reference/roff.ts";

test("characters that roff would change are escaped", () => {
  expect(escaped(`a-b\\n'c' "d" ^~\``)).toBe("a\\-b\\en\\(aqc\\(aq \\(dqd\\(dq \\(ha\\(ti\\(ga");
});

test("what is between backquotes is bold", () => {
  expect(marked("with `size=` or -")).toBe("with \\fBsize=\\fR or \\-");
});

test("what is typed is bold, and what stands for something italic", () => {
  expect(typed("pipe=tcp:HOST:PORT")).toBe("\\fBpipe=tcp:\\fR\\fIHOST\\fR\\fB:\\fR\\fIPORT\\fR");
  expect(typed("fd:N")).toBe("\\fBfd:\\fR\\fIN\\fR");
});

test("a line that is shown as it is cannot be a request", () => {
  expect(verbatim([".so /etc/passwd"])).toContain("\\&.so /etc/passwd");
});
