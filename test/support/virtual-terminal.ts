import { Writable } from 'node:stream';
import xterm from '@xterm/headless';

/** A terminal of the given size, whose screen a test can compare: xterm.js, as in VS Code. */
export class VirtualTerminal extends Writable {
  readonly isTTY = true;
  /** Number of writes so far. */
  writes = 0;
  readonly #terminal: xterm.Terminal;

  /** @param options.wrapsAgain false for a terminal that does not wrap lines again when it is resized. Default: true */
  constructor(columns: number, rows: number, { wrapsAgain = true }: { readonly wrapsAgain?: boolean } = {}) {
    super({ decodeStrings: false });
    this.#terminal = new xterm.Terminal({
      cols: columns,
      rows,
      allowProposedApi: true,
      convertEol: true, // as the kernel does
      ...(wrapsAgain ? {} : { windowsPty: { backend: 'conpty', buildNumber: 1 } }),
    });
  }

  getWindowSize(): [number, number] {
    return [this.#terminal.cols, this.#terminal.rows];
  }

  getColorDepth(): number {
    return 1;
  }

  /** Returns what a person sees after scrolling up, without empty lines at the end. Joins lines that were wrapped. */
  async lines(): Promise<string[]> {
    await this.#settled();
    const buffer = this.#terminal.buffer.active;
    const lines: string[] = [];
    for (let at = 0; at < buffer.length; at++) {
      const line = buffer.getLine(at);
      const text = line?.translateToString(true) ?? '';
      if (line?.isWrapped === true && lines.length > 0) lines.push(`${lines.pop()}${text}`);
      else lines.push(text);
    }
    while (lines.at(-1) === '') lines.pop();
    return lines;
  }

  /** Changes the size. The program hears of it later, by {@link signalSize}. */
  async resize(columns: number, rows: number): Promise<void> {
    await this.#settled();
    this.#terminal.resize(columns, rows);
  }

  /** Tells the program that the size has changed, as SIGWINCH does. */
  signalSize(): void {
    this.emit('resize');
  }

  override _write(text: string, _encoding: BufferEncoding, done: () => void): void {
    this.writes++;
    this.#terminal.write(text);
    done();
  }

  #settled(): Promise<void> {
    return new Promise((resolve) => this.#terminal.write('', resolve));
  }
}
