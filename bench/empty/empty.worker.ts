/** Answers whatever it is sent. */
declare const self: Worker;

self.addEventListener("message", () => self.postMessage(0));
