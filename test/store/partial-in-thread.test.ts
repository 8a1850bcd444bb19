/** Runs the tests of partial files with the hash thread. */
import { hashThread } from './partial-fixture.ts';

hashThread.startFor(1e12);
await import('./partial.test.ts');
