import { parentPort } from 'node:worker_threads';
import type { Asked, Reply } from './thread.ts';

/**
 * Answers the questions that this worker gets from its `Thread` (thread.ts). Answers to synchronous work keep their
 * order.
 *
 * This is a module of its own, so that a worker does not load the code of a fetch. That takes longer than its start.
 */
export function answerQuestions<Question, Answer>(work: (question: Question) => Answer | Promise<Answer>): void {
  const reply = (message: Reply<Answer>): void => parentPort?.postMessage(message);
  parentPort?.on('message', ({ id, question }: Asked<Question>) => {
    const fail = (error: unknown): void => {
      const { message, code } = error as NodeJS.ErrnoException;
      reply({ id, failure: { message, code } });
    };
    try {
      const answer = work(question);
      if (answer instanceof Promise) answer.then((one: Answer) => reply({ id, answer: one }), fail);
      else reply({ id, answer });
    } catch (error) {
      fail(error);
    }
  });
}
