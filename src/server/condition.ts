/** Waiting for a condition that several events can bring about. */

export class Condition {
  readonly #waiters = new Set<() => void>();

  /**
   * Resolves as soon as `condition` holds; checks it now and at every {@link poke}.
   *
   * @param timeout milliseconds after which it resolves anyway
   */
  until(condition: () => boolean, timeout?: number): Promise<void> {
    return new Promise((resolve) => {
      let late = false;
      const look = () => {
        if (!late && !condition()) return;
        this.#waiters.delete(look);
        clearTimeout(timer);
        resolve();
      };
      const expire = () => {
        late = true;
        look();
      };
      const timer = timeout === undefined ? undefined : setTimeout(expire, timeout);
      this.#waiters.add(look);
      look();
    });
  }

  /** Checks all conditions again. */
  poke(): void {
    for (const look of [...this.#waiters]) look();
  }
}
