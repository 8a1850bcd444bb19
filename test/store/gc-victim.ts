/** Collects a whole store, and is killed between the removal of the first narinfo and of its NAR. Run by gc.test.ts. */
import { FileStore } from '../../src/store/file-store.ts';
import { collectGarbage } from '../../src/store/gc.ts';

const store = await FileStore.open(process.argv[2] ?? '', { create: false });
const deadly = Object.create(store, {
  narPath: {
    value() {
      process.kill(process.pid, 'SIGKILL');
    },
  },
}) as FileStore;
await collectGarbage({
  store: deadly,
  roots: () => Promise.resolve([]),
  maxBytes: 0,
  dryRun: false,
  now: new Date(),
  signal: new AbortController().signal,
  onWarning: () => undefined,
});
