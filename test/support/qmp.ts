/**
 * A client of QMP, QEMU's monitor protocol, over a Unix socket: one JSON object on a line, in both
 * directions (qemu-qmp-ref(7), docs/interop/qmp-spec of QEMU).
 */
import { connect, type Socket } from "node:net";
import { bounded } from "./program.ts";

/** What a command takes and returns. */
export type QmpData = Readonly<Record<string, unknown>>;

/** Something that has happened in the machine. */
export interface QmpEvent {
  readonly event: string;
  readonly data: QmpData;
}

/** A command has been refused. */
export class QmpError extends Error {
  constructor(
    readonly command: string,
    /** QEMU's own words. */
    readonly description: string,
  ) {
    super(`${command}: ${description}`);
    this.name = "QmpError";
  }
}

interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** A monitor that is ready for commands; `using` hangs up. */
export class Qmp implements Disposable {
  readonly #events: QmpEvent[] = [];
  readonly #answers: Answer[] = [];
  #greeted = false;
  #ended = false;
  #wake = Promise.withResolvers<void>();
  /** Commands are answered in order, one at a time. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(readonly socket: Socket) {
    let text = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      const lines = (text + chunk).split("\n");
      text = lines.pop() as string;
      for (const line of lines) if (line.trim() !== "") this.#heard(JSON.parse(line));
    });
    const end = () => {
      this.#ended = true;
      this.#changed();
    };
    for (const event of ["end", "close", "error"]) socket.on(event, end);
  }

  /** Connects, and leaves the negotiation of capabilities. */
  static async connect(path: string): Promise<Qmp> {
    const socket = connect(path);
    await bounded(
      new Promise<void>((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("error", reject);
      }),
      `a monitor at ${path}`,
    );
    const qmp = new Qmp(socket);
    await qmp.#until(() => qmp.#greeted || undefined, "the monitor's greeting");
    await qmp.execute("qmp_capabilities");
    return qmp;
  }

  /**
   * Executes a command.
   *
   * @returns what it returns
   * @throws QmpError if it is refused
   */
  async execute<T = unknown>(command: string, args: QmpData = {}): Promise<T> {
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    await before;
    try {
      this.socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
      const answer = await this.#until(() => this.#answers.shift(), `${command} to be answered`);
      if (answer.error !== undefined) throw new QmpError(command, answer.error.desc);
      return answer.return as T;
    } finally {
      resolve();
    }
  }

  /** Executes a command of the monitor for humans. @returns what that prints */
  human(line: string): Promise<string> {
    return this.execute("human-monitor-command", { "command-line": line });
  }

  /** Takes the first event with this name, and these data, that nobody has taken yet; waits for it. */
  event(name: string, data: QmpData = {}): Promise<QmpEvent> {
    const wanted = Object.entries(data);
    return this.#until(() => {
      const at = this.#events.findIndex(
        (event) =>
          event.event === name && wanted.every(([key, value]) => event.data[key] === value),
      );
      return at < 0 ? undefined : this.#events.splice(at, 1)[0];
    }, `the event ${name}`);
  }

  /** The names of the events that nobody has taken yet. */
  get untaken(): string[] {
    return this.#events.map(({ event }) => event);
  }

  #heard(object: Record<string, unknown>): void {
    if ("QMP" in object) this.#greeted = true;
    else if ("event" in object) {
      this.#events.push({ event: object.event as string, data: (object.data ?? {}) as QmpData });
    } else this.#answers.push(object as Answer);
    this.#changed();
  }

  #changed(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  async #until<T>(look: () => T | undefined, what: string): Promise<T> {
    const found = async () => {
      for (;;) {
        const value = look();
        if (value !== undefined) return value;
        if (this.#ended) throw new Error(`the monitor has hung up before ${what}`);
        await this.#wake.promise;
      }
    };
    return await bounded(found(), what, () => `events: ${this.untaken.join(", ")}`);
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}
