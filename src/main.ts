#!/usr/bin/env bun
import "./inherited.ts";
import { main } from "./cli/main.ts";

process.exit(await main(process.argv.slice(2), new URL("./stream.worker.ts", import.meta.url)));
