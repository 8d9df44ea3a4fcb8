import { runStreamThread } from "./worker/thread.ts";

runStreamThread();
