import type { Socket } from 'node:net';

/** Bytes of NARs that were given over HTTP. */
export interface GivenBytes {
  /** To Nix of this machine. */
  readonly toNix: number;
  /** To other machines. */
  readonly toOthers: number;
}

/** An answer on its way. The head of the answer counts until its body is complete. */
interface Giving {
  readonly isLocal: boolean;
  readonly socket: Pick<Socket, 'bytesWritten'>;
  readonly fromByte: number;
  readonly bodyBytes: number;
}

/** Counts the bytes of answers, those that are on their way included. */
export class Given {
  readonly #done = { toNix: 0, toOthers: 0 };
  readonly #open = new Set<Giving>();

  /**
   * Counts an answer with a body of this size that begins now. Call the returned function when it has ended or broken
   * off.
   */
  begin(socket: Giving['socket'], bodyBytes: number, { isLocal }: { readonly isLocal: boolean }): () => void {
    const giving = { isLocal, socket, bodyBytes, fromByte: socket.bytesWritten };
    this.#open.add(giving);
    return () => {
      if (this.#open.delete(giving)) add(this.#done, giving);
    };
  }

  get bytes(): GivenBytes {
    const sum = { ...this.#done };
    for (const giving of this.#open) add(sum, giving);
    return sum;
  }
}

function add(
  sum: { -readonly [key in keyof GivenBytes]: number },
  { isLocal, socket, fromByte, bodyBytes }: Giving,
): void {
  sum[isLocal ? 'toNix' : 'toOthers'] += Math.min(socket.bytesWritten - fromByte, bodyBytes);
}
