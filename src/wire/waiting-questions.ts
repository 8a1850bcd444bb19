import type { Question } from './upload-window.ts';

/** Numbers of a question in the list. */
const EACH = 3;

/**
 * The waiting questions of one peer, in order, as numbers. With an object for each question, a thousand peers that ask
 * for two thousand blocks each would take 200 MB.
 */
export class WaitingQuestions {
  /** Index, offset and length of each question. The length is negative for metadata. */
  #numbers: number[] = [];

  get size(): number {
    return this.#numbers.length / EACH;
  }

  push({ of, index, offset, length }: Question): void {
    this.#numbers.push(index, offset, of === 'block' ? length : -length);
  }

  first(): Question | undefined {
    return this.size === 0 ? undefined : this.#at(0);
  }

  dropFirst(): void {
    this.#numbers.splice(0, EACH);
  }

  /** Removes the question for a block. @returns true if it waited */
  cancel(index: number, offset: number, length: number): boolean {
    const numbers = this.#numbers;
    for (let at = 0; at < numbers.length; at += EACH) {
      if (numbers[at] !== index || numbers[at + 1] !== offset || numbers[at + 2] !== length) continue;
      numbers.splice(at, EACH);
      return true;
    }
    return false;
  }

  /** Removes all questions for blocks. @returns the removed questions */
  forgetBlocks(): readonly Question[] {
    const all = Array.from({ length: this.size }, (_, at) => this.#at(at));
    this.#numbers = [];
    for (const question of all) if (question.of !== 'block') this.push(question);
    return all.filter(({ of }) => of === 'block');
  }

  #at(place: number): Question {
    const [index = 0, offset = 0, length = 0] = this.#numbers.slice(EACH * place, EACH * (place + 1));
    return { of: length < 0 ? 'metadata' : 'block', index, offset, length: Math.abs(length) };
  }
}
