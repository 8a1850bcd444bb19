/**
 * Decodes Content-Encoding. Requests ask for identity, since caches send compressed files anyway. But some caches store
 * narinfos compressed (`narinfo-compression=br` of Nix's S3 store), and some proxies compress everything.
 */

import { once } from 'node:events';
import { type Duplex, pipeline } from 'node:stream';
import zlib from 'node:zlib';
import type { Answer, TakeChunk } from './answer.ts';
import { quote } from '../../nix/quote.ts';
import { AttemptFailure } from './failure.ts';

/** Limit on encodings of one body. Each takes a decoder, and several proxies that compress in turn are an accident. */
const MAX_ENCODINGS = 3;

/**
 * Returns the answer with its body decoded, if it has a Content-Encoding. Its length is then unknown. As in Nix, the
 * name of an encoding may be in upper or lower case, with or without `x-`.
 *
 * @param sizeBytes size of the requested file, if known. An answer that announces this size is the file itself, and its
 *   Content-Encoding only describes it (Apache's mod_mime says `x-bzip2` for a .bz2)
 * @throws AttemptFailure for an unknown encoding
 */
export function decodeAnswer(answer: Answer, sizeBytes?: number): Answer {
  const encodings = (answer.header('content-encoding') ?? '')
    .split(',')
    .map((name) => name.trim().toLowerCase().replace(/^x-/, ''))
    .filter((name) => name !== '' && name !== 'identity' && name !== 'none');
  const isFile = sizeBytes !== undefined && answer.header('content-length') === String(sizeBytes);
  if (encodings.length === 0 || isFile) return answer;
  const isKnown = encodings.every((name) => Object.hasOwn(DECODERS, name));
  if (isKnown && encodings.length <= MAX_ENCODINGS) return new DecodedAnswer(answer, encodings.toReversed());
  answer.discard();
  throw new AttemptFailure(
    `the server sent Content-Encoding ${quote(encodings.join(', '))}, which narswarm cannot decode`,
    {
      code: 'HTTP_FAILED',
      retry: 'never',
      status: answer.statusCode,
    },
  );
}

const DECODERS: Readonly<Record<string, () => Duplex | Promise<Duplex>>> = {
  gzip: () => zlib.createGunzip(),
  deflate: () => zlib.createInflate(),
  br: () => zlib.createBrotliDecompress(),
  zstd: () => zlib.createZstdDecompress(),
  // Node has no decoder for these. Their programs are on every machine that runs Nix.
  xz: () => run('xz', ['-dc', '--memlimit-decompress=128MiB']),
  bzip2: () => run('bzip2', ['-dc']),
};

async function run(program: string, args: readonly string[]): Promise<Duplex> {
  const { execa } = await import('execa'); // takes 20 ms, which nearly all requests save
  return execa(program, args, { buffer: false, stderr: 'ignore' }).duplex();
}

class DecodedAnswer implements Answer {
  readonly statusCode: number;
  readonly #answer: Answer;
  readonly #encodings: readonly string[];

  /** @param encodings in the order of decoding */
  constructor(answer: Answer, encodings: readonly string[]) {
    this.statusCode = answer.statusCode;
    this.#answer = answer;
    this.#encodings = encodings;
  }

  header(name: string): string | undefined {
    return name === 'content-length' || name === 'content-encoding' ? undefined : this.#answer.header(name);
  }

  /** Decodes no faster than `take` accepts bytes, so that the taker can bound the size of the decoded body. */
  async read(take: TakeChunk): Promise<void> {
    const decoders: Duplex[] = [];
    for (const name of this.#encodings) {
      const decoder = await DECODERS[name]?.();
      if (decoder !== undefined) decoders.push(decoder);
    }
    const [head, ...rest] = decoders;
    if (head === undefined) return this.#answer.read(take);
    let tail = head.on('error', ignore);
    for (const decoder of rest) tail = pipeline(tail, decoder, ignore);
    let broken: { readonly error: unknown } | undefined;
    void feed(head, this.#answer).catch((error: unknown) => {
      if (error !== DECODER_FAILED) broken = { error };
      head.destroy(error as Error);
    });
    let isDecoding = true;
    try {
      for await (const chunk of tail) {
        isDecoding = false;
        await take(chunk as Buffer);
        isDecoding = true;
      }
    } catch (error) {
      const failure = isDecoding ? (broken?.error ?? this.#refuse(error)) : error;
      this.#answer.close();
      head.destroy();
      throw failure;
    }
  }

  #refuse(cause: unknown): AttemptFailure {
    const encodings = this.#encodings.toReversed().join(', ');
    const said = cause instanceof Error ? cause.message : String(cause);
    const reason = `the body is not valid ${encodings}, its Content-Encoding (${said})`;
    return new AttemptFailure(reason, { code: 'HTTP_FAILED', retry: 'once', status: this.statusCode, cause });
  }

  discard(): void {
    this.#answer.discard();
  }

  close(): void {
    this.#answer.close();
  }
}

/** Writes the body of an answer to a decoder. @throws the answer's failure; DECODER_FAILED */
async function feed(decoder: Duplex, answer: Answer): Promise<void> {
  await answer.read(async (chunk) => {
    if (decoder.destroyed) throw DECODER_FAILED;
    if (decoder.write(Buffer.from(chunk))) return; // a copy: a chunk is lent
    await Promise.race([once(decoder, 'drain'), once(decoder, 'close')]).catch(ignore);
    if (decoder.destroyed) throw DECODER_FAILED;
  });
  decoder.end();
}

/** Ends the writing side. The reader of the decoder gets the real reason. */
const DECODER_FAILED = new Error('the decoder has failed');

function ignore(): void {
  // the reader gets the error
}
