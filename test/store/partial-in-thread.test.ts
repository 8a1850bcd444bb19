/** All that holds of partial files holds with the hash thread, too. */
import { hashInThread } from '../../src/bytes/hash-thread.ts';

hashInThread(1e12);
await import('./partial.test.ts');
