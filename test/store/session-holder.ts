/** Opens a session of the store named, leaves half a file in it and waits to be killed. Run by session.test.ts. */
import { writeFile } from 'node:fs/promises';
import { FileStore } from '../../src/store/file-store.ts';
import { PartialSession } from '../../src/store/session.ts';

const session = await PartialSession.open(await FileStore.open(process.argv[2] ?? '', { create: true }));
await writeFile(session.path('nar'), 'half of it');
process.stdout.write('ready\n');
setInterval(() => undefined, 60_000);
