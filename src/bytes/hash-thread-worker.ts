import { createHash, hash, type Hash } from 'node:crypto';
import { readSync, writeFileSync, writeSync } from 'node:fs';
import type { HashQuestion, Place } from './hash-thread.ts';
import { answerQuestions } from './thread-worker.ts';

/** Bytes of a file that are read at a time. */
const READ_BYTES = 256 * 1024;

/** Hashes and writes: what the thread does. */
class HashWork {
  readonly #streams = new Map<number, Hash>();
  #buffer: Buffer | undefined;

  answer(question: HashQuestion): string {
    switch (question.want) {
      case 'sha1':
      case 'sha256':
        return hash(question.want, question.bytes, 'hex');
      case 'save': {
        const digest = hash('sha256', question.bytes, 'hex');
        if (digest === question.digest) writeFileSync(question.path, question.bytes);
        return digest;
      }
      case 'update':
        for (const chunk of question.bytes) this.#streamOf(question.stream).update(chunk);
        if (question.place !== undefined) writeAt(question.place, question.bytes); // still in the processor's cache
        return '';
      case 'write':
        writeAt(question.place, question.bytes);
        return '';
      case 'read':
        return String(this.#read(this.#streamOf(question.stream), question.place, question.lengthBytes));
      case 'digest': {
        const digest = this.#streamOf(question.stream).digest('hex');
        this.#streams.delete(question.stream);
        return digest;
      }
      default:
        this.#streams.delete(question.stream);
        return '';
    }
  }

  #streamOf(stream: number): Hash {
    let sha256 = this.#streams.get(stream);
    if (sha256 === undefined) this.#streams.set(stream, (sha256 = createHash('sha256')));
    return sha256;
  }

  /** Adds bytes of a file to a stream. @returns the number of bytes read */
  #read(sha256: Hash, { descriptor, offset }: Place, lengthBytes: number): number {
    const buffer = (this.#buffer ??= Buffer.allocUnsafeSlow(READ_BYTES));
    let done = 0;
    while (done < lengthBytes) {
      const bytes = readSync(descriptor, buffer, 0, Math.min(READ_BYTES, lengthBytes - done), offset + done);
      if (bytes === 0) break;
      sha256.update(buffer.subarray(0, bytes));
      done += bytes;
    }
    return done;
  }
}

function writeAt({ descriptor, offset }: Place, chunks: readonly Uint8Array[]): void {
  let at = offset;
  for (const chunk of chunks)
    for (let done = 0; done < chunk.length;) {
      const written = writeSync(descriptor, chunk, done, chunk.length - done, at);
      done += written;
      at += written;
    }
}

const work = new HashWork();
answerQuestions((question: HashQuestion): string => work.answer(question));
