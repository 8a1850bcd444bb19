import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { NarJob } from '../../../src/fetch/plan/job.ts';
import { tempDir } from '../../store/store-fixture.ts';
import { torrentOf } from '../../swarm/swarm-fixture.ts';
import { infoOf } from '../walk/narinfos.ts';

/** A NAR of random bytes in a folder that is served as a cache, and the job to fetch it. */
export interface CachedNar {
  readonly dir: string;
  readonly cacheDir: string;
  readonly bytes: Buffer;
  readonly job: NarJob;
}

export async function makeCachedNar(t: TestContext, sizeBytes: number): Promise<CachedNar> {
  const dir = await tempDir(t);
  const cacheDir = join(dir, 'cache');
  const bytes = randomBytes(sizeBytes);
  const { fileHash } = torrentOf(bytes);
  const info = infoOf('blob', [], { fileHash, fileSize: sizeBytes });
  await mkdir(join(cacheDir, 'nar'), { recursive: true });
  await writeFile(join(cacheDir, info.url), bytes);
  const job = { fileHash, sizeBytes, extension: 'xz', info, storePaths: [info.storePath], torrent: undefined };
  return { dir, cacheDir, bytes, job };
}
