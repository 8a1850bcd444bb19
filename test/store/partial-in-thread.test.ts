/** Runs the tests of partial files with the hash thread. */
import { hashInThread } from '../../src/bytes/hash-thread.ts';

hashInThread(1e12);
await import('./partial.test.ts');
