import { runStreamThread } from "./stream/thread.ts";

runStreamThread();
