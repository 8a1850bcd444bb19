import { createHash, hash, type Hash } from 'node:crypto';
import type { HashQuestion } from './hash-thread.ts';
import { answerQuestions } from './thread.ts';

const streams = new Map<number, Hash>();

function streamOf(stream: number): Hash {
  let sha256 = streams.get(stream);
  if (sha256 === undefined) streams.set(stream, (sha256 = createHash('sha256')));
  return sha256;
}

answerQuestions(({ want, bytes, stream }: HashQuestion): string => {
  const [first = new Uint8Array()] = bytes;
  switch (want) {
    case 'sha1':
    case 'sha256':
      return hash(want, first, 'hex');
    case 'update':
      for (const chunk of bytes) streamOf(stream).update(chunk);
      return '';
    case 'digest': {
      const digest = streamOf(stream).digest('hex');
      streams.delete(stream);
      return digest;
    }
    default:
      streams.delete(stream);
      return '';
  }
});
