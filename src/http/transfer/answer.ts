/** An answer as it arrives. Its body is handed over chunk by chunk, without a stream in between. */

/**
 * Takes a chunk. A returned promise holds the sender back. A thrown error ends the answer. The chunk may be a slice of a
 * lent buffer, which is used again after `TakeChunk` has returned, or after its promise is settled: to keep the bytes
 * for longer, copy them, or become one more user of the buffer (lent-buffers.ts).
 */
export type TakeChunk = (chunk: Buffer) => void | Promise<void>;

/** An answer; its body must be read, discarded or closed. */
export interface Answer {
  readonly statusCode: number;
  /** Returns the value of a header; the first if it was sent more than once. `name` in lower case. */
  header(name: string): string | undefined;
  /** Hands the whole body to `take`. @throws errors of `take`; AttemptFailure if the body breaks off */
  read(take: TakeChunk): Promise<void>;
  /** Frees the connection for the next request. Closes the connection instead if the body is long or never ends. */
  discard(): void;
  /** Ends the answer at once and closes its connection. */
  close(): void;
}
