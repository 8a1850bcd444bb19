import { NarswarmError } from '../../errors.ts';
import type { IndexSource } from './shard-files.ts';

/** Fetches no file that is not on the disk. */
export const NOT_HERE: IndexSource = {
  readFile: (name) => Promise.reject(new NarswarmError('INDEX_UNREACHABLE', `${name} is not on the disk`)),
};
