/** Faults of files in a store, as facts. cli/ puts them into words. */

/** The contents of a NAR are not the signed ones. */
export type ContentsFault =
  /** The file cannot be decompressed, has more bytes than are signed, or does not match its content address. */
  | { readonly kind: 'unusable-contents'; readonly compression: string; readonly narSize: number }
  | { readonly kind: 'other-contents'; readonly found: string; readonly signed: string };

/** The SHA-256 of a file is not the one that its name or narinfo says. */
interface OtherFile {
  readonly kind: 'other-file';
  readonly found: string;
  readonly named: string;
}

/** The losses of a complete closure, as far as known without reading all files. */
export type Loss = 'gone' | 'damaged-narinfo' | 'wrong-nar' | 'damaged-nar';

/** Why a file is damaged or missing. */
export type Fault =
  | { readonly kind: Loss }
  | ContentsFault
  | OtherFile
  /** A narinfo refers to this one, which is missing. */
  | { readonly kind: 'lost-reference'; readonly referrer: string }
  /** The disk does not return the file. `reason` has the system's words. */
  | { readonly kind: 'unreadable'; readonly reason: string }
  /** A narinfo cannot be parsed, or names a place outside the store. */
  | { readonly kind: 'malformed-narinfo'; readonly reason: string }
  | { readonly kind: 'other-path'; readonly path: string }
  /** A narinfo has a wrong signature by a trusted key. */
  | { readonly kind: 'forged'; readonly key: string }
  /** An unsigned line of a narinfo is unusable. */
  | { readonly kind: 'wrong-line'; readonly line: UnsignedLine; readonly value: string }
  /** The URL of a narinfo names no file, but its NAR is here. */
  | { readonly kind: 'wrong-url'; readonly url: string }
  | { readonly kind: 'wrong-file-size'; readonly said: number; readonly found: number }
  /** A narinfo names a file that belongs to another one, or describes its own file wrongly. */
  | { readonly kind: 'wrong-file-hash'; readonly file: OtherFile }
  | { readonly kind: 'wrong-nar-named'; readonly contents: ContentsFault };

export type UnsignedLine = 'Compression' | 'CA' | 'Sig' | 'FileHash' | 'FileSize' | 'Deriver';
