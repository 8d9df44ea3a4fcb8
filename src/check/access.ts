/** Whether a path can be opened, by its mode: opening it might be noticed at its other end. */
import { accessSync, constants } from "node:fs";
import type { Direction } from "../endpoint/spec.ts";
import { messageOf } from "../errors.ts";
import { endpointItem, type Item } from "./item.ts";

/** @param remark what else there is to say where it can be */
export function accessItem(path: string, direction: Direction, remark = ""): Item {
  const name = "can be opened";
  try {
    accessSync(path, direction === "write" ? constants.W_OK : constants.R_OK);
  } catch (error) {
    const text = `${messageOf(error)}: check its mode and owner (chmod, chown)`;
    return endpointItem(name, "failed", text);
  }
  const way = direction === "write" ? "writing" : "reading";
  return endpointItem(name, "ok", `for ${way}, by its mode${remark}`);
}
