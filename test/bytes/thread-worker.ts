/** A worker that doubles numbers, and fails in each way that a worker can. */
import { answerQuestions } from '../../src/bytes/thread-worker.ts';

answerQuestions((question: number) => {
  if (question === Infinity) return new Promise<number>(() => undefined);
  if (question === 0)
    setImmediate(() => {
      throw new Error('out of order');
    });
  if (question === 0) return new Promise<number>(() => undefined);
  if (question < 0) throw Object.assign(new Error('negative'), { code: 'EDOM' });
  return question * 2;
});
