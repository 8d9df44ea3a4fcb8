/** What is measured: one entry of `rows` per line of the tables, in this order. */
import { imageRows } from "./images.ts";
import { readRows } from "./reads.ts";
import { requestRows } from "./requests.ts";
import type { Row } from "./row.ts";
import { sinkRows } from "./sinks.ts";
import { spoolRows } from "./spool.ts";
import { tlsRows } from "./tls.ts";

/** A file of data is there from the first row that wants it to the last, so the order costs room. */
export const rows: Row[] = [
  ...imageRows,
  ...sinkRows,
  ...requestRows,
  ...spoolRows,
  ...readRows,
  ...tlsRows,
];
