/**
 * A process of its own that seeds a NAR of 64 MiB and a small one, meets a cohort, and serves a map over HTTP: what
 * crowd.test.ts measures the memory of. Prints one line of JSON when it is ready, and its peak memory on SIGUSR2.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { IndexServer } from '../../src/publish/index-server.ts';
import { IndexDir } from '../../src/index/index-dir.ts';
import type { InfoHash } from '../../src/nix/brands.ts';
import { Swarm, type Seed } from '../../src/swarm/swarm.ts';
import { MIB, torrentOf } from './swarm-fixture.ts';

const [folder = ''] = process.argv.slice(2);
const COHORT = createHash('sha1').update('a cohort').digest('hex') as InfoHash;
const seeds = new Map<InfoHash, Seed>();
for (const sizeBytes of [64 * MIB, MIB]) {
  const bytes = randomBytes(sizeBytes);
  const torrent = torrentOf(bytes);
  const path = join(folder, torrent.name);
  await writeFile(path, bytes);
  seeds.set(torrent.infoHash, { torrent, files: [{ path, sizeBytes }] });
}
const swarm = await Swarm.listen({ host: '0.0.0.0', seeds: async (infoHash) => seeds.get(infoHash) });
swarm.meet(COHORT);
const dir = new IndexDir(join(folder, 'map'));
await dir.writeShard('all', randomBytes(4 * MIB));
const http = await IndexServer.listen({ own: dir, dirOf: () => undefined }, { serves: 'lan' });
process.on('SIGUSR2', () => {
  const peak = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
  console.log(JSON.stringify({ peakMiB: Math.round(Number(peak) / 1024) }));
});
console.log(JSON.stringify({ port: swarm.port, httpPort: http.port, cohort: COHORT, infoHashes: [...seeds.keys()] }));
