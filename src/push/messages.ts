/**
 * The messages between a push and the process that it runs on a host, one JSON object a line over the pipes of ssh. Both sides
 * have the same version of the program, or the push brings its own; `PROTOCOL` guards against two builds of one version.
 */
import * as v from 'valibot';
import { NarswarmError } from '../errors.ts';
import { inOneLine } from '../nix/quote.ts';

export const PROTOCOL = 2;

/**
 * Limit on a line from a host, in characters, besides the paths that it was asked about. To parse a character may take 50 bytes
 * of memory.
 */
export const MAX_LINE = 1024 * 1024;
/** Limit on a text of a host that people read, in characters. */
const MAX_WORDS = 4_000;

/** A text of a host that people read: one line, whatever the host sends. */
const words = v.pipe(
  v.string(),
  v.transform((text) => inOneLine(text.slice(0, MAX_WORDS))),
);
const texts = v.array(v.string());
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535));

/** Messages from a push to a host. */
const ToHost = v.variant('type', [
  v.object({
    type: v.literal('begin'),
    /** Infohash of the cohort: 20 random bytes in hex. Whoever knows it is a member. */
    group: v.pipe(v.string(), v.regex(/^[0-9a-f]{40}$/)),
    /** The key of this push, which has signed all records. */
    key: v.string(),
    /** True to import paths that no key of the host's Nix has signed, on the word of the pushing machine. */
    trusts: v.boolean(),
    /** The port for peers of the pushing machine. */
    port,
  }),
  /** A port of the host's own loopback that leads to the pushing machine through ssh. */
  v.object({ type: v.literal('tunnel'), port }),
  /** Asks which of these paths the host lacks. References come first. */
  v.object({ type: v.literal('ask'), paths: texts }),
  /** Addresses of other hosts. */
  v.object({ type: v.literal('peers'), peers: texts }),
  /** Records of paths that the host lacks, references first, to be fetched and imported. */
  v.object({ type: v.literal('fetch'), records: texts }),
  /** Nothing more is to be fetched. */
  v.object({ type: v.literal('end') }),
  /** All hosts are complete: no other host needs this one any longer. */
  v.object({ type: v.literal('bye') }),
]);
export type ToHost = v.InferOutput<typeof ToHost>;

/** Messages from a host to a push. */
const FromHost = v.variant('type', [
  v.object({
    type: v.literal('hello'),
    protocol: v.number(),
    version: words,
    /** The same for all names of one host, and different for two running hosts. Not in protocol 1. */
    machine: v.optional(v.string()),
  }),
  /** The remote shell runs our command. Not sent if the login has failed. */
  v.object({ type: v.literal('shell') }),
  /** The remote shell has no narswarm of this version, and waits for the program. */
  v.object({ type: v.literal('send-program') }),
  /** There is neither narswarm of this version nor a Node that could run it. `node`: the version that is there, or nothing. */
  v.object({ type: v.literal('no-node'), node: words }),
  /** The copy of the program could not be written. Its stderr says why. */
  v.object({ type: v.literal('not-kept') }),
  /** `address`: where ssh has reached the host. Empty if ssh does not say. */
  v.object({ type: v.literal('ready'), port, address: v.string() }),
  v.object({ type: v.literal('lacking'), paths: texts }),
  v.object({
    type: v.literal('progress'),
    bytes: count,
    totalBytes: count,
    nars: count,
    totalNars: count,
    importing: v.boolean(),
  }),
  v.object({ type: v.literal('warning'), text: words }),
  v.object({
    type: v.literal('done'),
    paths: count,
    /** Bytes of NARs that came now, and of those that an interrupted push had left. */
    bytes: count,
    kept: count,
    /** Bytes that came from the pushing machine; the rest came from other hosts. */
    ofPush: count,
    durationMs: v.number(),
  }),
  v.object({ type: v.literal('failed'), code: v.string(), message: words }),
  /** The last message of a host that was not interrupted: nothing that another push could meet is left. */
  v.object({ type: v.literal('gone') }),
]);
export type FromHost = v.InferOutput<typeof FromHost>;

export function formatMessage(message: ToHost | FromHost): string {
  return `${JSON.stringify(message)}\n`;
}

/** Reads a line from a push. @throws USAGE for anything else: a person has started this command */
export function parseToHost(line: string): ToHost {
  const message = parse(ToHost, line);
  if (message === undefined) throw otherInput();
  return message;
}

/** Reads a line from a host. Undefined for anything else: a shell may print something first. */
export function parseFromHost(line: string): FromHost | undefined {
  return parse(FromHost, line);
}

/** Makes the error of an input that no push has written. */
export function otherInput(): NarswarmError {
  return new NarswarmError('USAGE', 'narswarm receive is run by narswarm push over ssh, and has read something else');
}

function parse<T extends v.GenericSchema>(schema: T, line: string): v.InferOutput<T> | undefined {
  try {
    const read = v.safeParse(schema, JSON.parse(line));
    return read.success ? read.output : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Yields the lines of a stream as they come.
 *
 * @param maxLine returns the present limit on a line, in characters
 * @throws HOST_FAILED for a line that does not end within the limit
 */
export async function* linesOf(
  stream: AsyncIterable<unknown>,
  maxLine = (): number => MAX_LINE,
): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest: string[] = [];
  let length = 0;
  for await (const chunk of stream) {
    const [first = '', ...others] = decoder.decode(chunk as Uint8Array, { stream: true }).split('\n');
    rest.push(first);
    length += first.length;
    if (length > maxLine())
      throw new NarswarmError('HOST_FAILED', 'it sends a line without an end', { facts: { kind: 'nonsense' } });
    for (const other of others) {
      yield rest.join('');
      rest = [other];
      length = other.length;
    }
  }
}
