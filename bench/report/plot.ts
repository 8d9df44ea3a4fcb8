/** The ratios as a picture: an SVG without anything from elsewhere. */
import { ratio, type Result, seconds, type Spread } from "./figures.ts";

interface Bar {
  name: string;
  values: Spread;
  goal: number | undefined;
}

const LINE = 24;
const BAR = 12;
const TOP = 66;
const BOTTOM = 34;
const LEFT = 118;
const CHART = 560;
const RIGHT = 92;
const WIDTH = LEFT + CHART + RIGHT;

/** What lies beyond is cut off, so that one slow run does not squeeze all the rest. */
const LARGEST = 2;
const TICK = 0.25;

/** It has a ground of its own, which follows the reader's choice of light or dark where that is told. */
const STYLE = `
  .ground { fill: #ffffff; stroke: #d0d7de }
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .quiet { fill: #59636e; font-size: 12px }
  .grid { stroke: #d8dee4 }
  .even { stroke: #59636e; stroke-width: 1.5 }
  .met { fill: #2f81c7 }
  .missed { fill: #d1762b }
  .plain { fill: #8795a3 }
  .whisker { stroke: #1f2328; fill: none }
  .goal { stroke: #c0307f; stroke-width: 3 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d }
    text { fill: #e6edf3 }
    .quiet { fill: #9198a1 }
    .grid { stroke: #2a313c }
    .even { stroke: #9198a1 }
    .met { fill: #3d8fd9 }
    .plain { fill: #68727d }
    .whisker { stroke: #e6edf3 }
    .goal { stroke: #f778ba }
  }
`;

/** Rows without a figure of nbdkit are left out. */
export function plot(results: readonly Result[]): string {
  const bars = results.flatMap((result): Bar[] => {
    const values = ratio(result, "nbdkit", seconds);
    if (values === undefined) return [];
    return [{ name: result.row.name, values, goal: result.row.goals?.nbdkit }];
  });
  const end = axisEnd(bars);
  const x = (value: number) => round(LEFT + (Math.min(value, end) / end) * CHART);
  const height = TOP + bars.length * LINE + BOTTOM;
  const foot = TOP + bars.length * LINE;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="Time of ours divided by the time of nbdkit">
<style>${STYLE}</style>
<rect class="ground" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="6"/>
<text class="title" x="16" y="26">Time of ours / time of nbdkit: shorter is better</text>
${legend()}
${ticks(end)
  .map((tick) => gridLine(x(tick), foot, tick))
  .join("\n")}
${bars.map((bar, index) => drawn(bar, TOP + index * LINE + LINE / 2, x, end)).join("\n")}
</svg>
`;
}

function axisEnd(bars: readonly Bar[]): number {
  const largest = Math.max(1, ...bars.map(({ values, goal }) => Math.max(values.max, goal ?? 0)));
  return Math.min(LARGEST, Math.ceil(largest / TICK) * TICK);
}

function ticks(end: number): number[] {
  return Array.from({ length: Math.round(end / TICK) + 1 }, (_, index) => index * TICK);
}

function gridLine(x: number, foot: number, value: number): string {
  return `<path class="${value === 1 ? "even" : "grid"}" d="M${x} ${TOP - 4}V${foot + 4}"/>
<text class="quiet" x="${x}" y="${foot + 20}" text-anchor="middle">${value.toFixed(2)}</text>`;
}

function drawn(
  { name, values, goal }: Bar,
  y: number,
  x: (value: number) => number,
  end: number,
): string {
  const kind = goal === undefined ? "plain" : values.median <= goal ? "met" : "missed";
  const cap = (value: number) => (value <= end ? `M${x(value)} ${y - 4}V${y + 4}` : "");
  const mark = goal === undefined ? "" : `<path class="goal" d="M${x(goal)} ${y - 9}V${y + 9}"/>`;
  return `<text x="${LEFT - 10}" y="${y + 4.5}" text-anchor="end">${name}</text>
<rect class="${kind}" x="${LEFT}" y="${y - BAR / 2}" width="${round(x(values.median) - LEFT)}" height="${BAR}"/>
<path class="whisker" d="M${x(values.min)} ${y}H${x(values.max)}${cap(values.min)}${cap(values.max)}"/>${mark}
<text x="${LEFT + CHART + 14}" y="${y + 4.5}">${values.median.toFixed(2)}</text>`;
}

function legend(): string {
  const entries = [
    { text: "goal met", mark: '<rect class="met" y="-10" width="14" height="11"/>' },
    { text: "goal missed", mark: '<rect class="missed" y="-10" width="14" height="11"/>' },
    { text: "no goal", mark: '<rect class="plain" y="-10" width="14" height="11"/>' },
    { text: "goal", mark: '<path class="goal" d="M7 -12V2"/>' },
    { text: "min to max", mark: '<path class="whisker" d="M0 -4H14M0 -8V0M14 -8V0"/>' },
  ];
  return entries
    .map(
      ({ text, mark }, index) =>
        `<g transform="translate(${16 + index * 118} 48)">${mark}<text class="quiet" x="20">${text}</text></g>`,
    )
    .join("\n");
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
