/** README's picture shows what the program prints today. */
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { COLUMNS, NEEDS, PICTURE, recordSession } from "../../demo/session.ts";
import { pictureOf } from "../../demo/svg.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const missing = NEEDS.filter((tool) => Bun.which(tool) === null);
const why = missing.length > 0 ? ` (needs ${missing.join(", ")})` : "";

describe.skipIf(missing.length > 0)(`docs/session.svg${why}`, () => {
  const picture = readFileSync(PICTURE, "utf8");
  let now: string;

  beforeAll(async () => {
    now = pictureOf(await recordSession(), COLUMNS);
  });

  test("has the texts that the program prints now, but for the figures", () => {
    expect(text(picture)).toBe(text(now));
  });

  test("has a stream that is complete, a truncated one, and a check", () => {
    const parts = [
      "MiB of N MiB",
      ": complete",
      ": truncated: ",
      "broken.qcow",
      "from start to end",
    ];
    for (const part of parts) expect(text(picture)).toContain(part);
  });
});

test("docs/session.svg is an SVG in which each text has its place", async () => {
  const picture = readFileSync(PICTURE, "utf8");
  expect(picture.length).toBeLessThan(8_000);
  // Well-formed: each element is closed by its own name.
  const open: string[] = [];
  for (const [, end, name, empty] of picture.matchAll(/<(\/?)([a-z]+)\b[^>]*?(\/?)>/g)) {
    if (end === "/") expect(open.pop()).toBe(name as string);
    else if (empty !== "/") open.push(name as string);
  }
  expect(open).toEqual([]);
  expect(picture).toStartWith('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ');
  const [, width = 0, height = 0] = /viewBox="0 0 (\d+) (\d+)"/.exec(picture)?.map(Number) ?? [];
  for (const [, x, y, length] of picture.matchAll(
    /<text x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)"/g,
  )) {
    expect(Number(x) + Number(length)).toBeLessThanOrEqual(width);
    expect(Number(y)).toBeLessThan(height);
  }
});

/**
 * All texts, as one: a longer figure moves the end of a row. Without the figures, and without the bar, whose
 * parts have other lengths each time. What qemu-img's coroutines say of one fault comes once or more often.
 */
function text(picture: string): string {
  const texts = [...picture.matchAll(/<text [^>]*>([^<]*)<\/text>/g)].map(([, one = ""]) => one);
  const withoutFigures = (one: string) =>
    one.replaceAll(/#+|\.{2,}/g, "").replaceAll(/\d+(\.\d+)?/g, "N");
  const once = texts.filter((one, i) => withoutFigures(one) !== withoutFigures(texts[i - 1] ?? ""));
  return withoutFigures(once.join(""));
}
