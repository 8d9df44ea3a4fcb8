/** Runs two classes for long enough that FTL compiles their methods, unless it is kept from that. */
import { keepFromFtl } from "../../src/stream/no-ftl.ts";

class Kept {
  #sum = 0;

  constructor() {
    keepFromFtl(Kept, this.#keptPrivate);
  }

  get keptGetter(): number {
    return this.#sum;
  }

  keptPublic(n: number): void {
    for (let i = 0; i < n; i++) this.#keptPrivate(this.keptGetter ^ i);
  }

  #keptPrivate(n: number): void {
    for (let i = 0; i < 10; i++) this.#sum = (this.#sum + n * i) | 0;
  }
}

class Free {
  sum = 0;

  freePublic(n: number): void {
    for (let i = 0; i < n; i++) this.sum = (this.sum + i) | 0;
  }
}

const [kept, free] = [new Kept(), new Free()];
for (let i = 0; i < 20_000; i++) {
  kept.keptPublic(100);
  free.freePublic(100);
}
