/** Progress of reading NARs of a file store and hashing them. */
export type HashingEvent =
  /** These NARs are read now. */
  | { readonly type: 'hashing'; readonly nars: number; readonly bytes: number }
  | { readonly type: 'nar-hashed'; readonly bytes: number };

export type TellHashing = (event: HashingEvent) => void;
