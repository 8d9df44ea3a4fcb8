import { expect, test } from "bun:test";
import { type Item, reportJson, reportOf, reportText } from "../../src/check/report.ts";

const OK: Item = { topic: "machine", name: "Bun", state: "ok", text: "new enough" };
const NOTE: Item = { topic: "endpoint", name: "other end", state: "note", text: "nobody yet" };
const WARNING: Item = { topic: "endpoint", name: "window=", state: "warning", text: "large" };
const FAILED: Item = { topic: "endpoint", name: "kind", state: "failed", text: "a folder" };

test("a report is good until something has failed", () => {
  expect(reportOf([]).ok).toBeTrue();
  expect(reportOf([OK, NOTE, WARNING]).ok).toBeTrue();
  expect(reportOf([OK, FAILED]).ok).toBeFalse();
});

test("a report is a table by topics, and the last line says what it comes to", () => {
  expect(reportText(reportOf([OK, NOTE, WARNING]))).toBe(
    [
      "machine",
      "  ok       Bun        new enough",
      "",
      "endpoint",
      "  note     other end  nobody yet",
      "  warning  window=    large",
      "",
      "all is well",
      "",
    ].join("\n"),
  );
  expect(reportText(reportOf([FAILED]))).toEndWith("\n\nsomething has failed: see above\n");
});

test("a report as JSON is one line, and large numbers are numbers", () => {
  const client = { streams: true, trials: [{ size: 2n ** 62n }] } as never;
  const text = reportJson(reportOf([OK], client));
  expect(text.trimEnd()).not.toContain("\n");
  expect(JSON.parse(text)).toEqual({
    ok: true,
    items: [OK],
    client: { streams: true, trials: [{ size: 2 ** 62 }] },
  });
});
