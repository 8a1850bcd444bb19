/** An answer as it comes in: its body goes chunk by chunk to whoever takes it, without a stream between. */

/** Takes a chunk, which is its own from then on; a promise holds the sender back. What it throws ends the answer. */
export type TakeChunk = (chunk: Buffer) => void | Promise<void>;

/** Has to be read, discarded or closed. */
export interface Answer {
  readonly statusCode: number;
  /** The value of a header; the first, where it was sent more than once. `name` in lower case. */
  header(name: string): string | undefined;
  /** Gives the body to `take` until it has all of it. @throws what `take` throws; AttemptFailure where it breaks off */
  read(take: TakeChunk): Promise<void>;
  /** Lets the connection serve the next request; a body that is long or never ends costs the connection instead. */
  discard(): void;
  /** Ends the answer where it is; its connection closes. */
  close(): void;
}
