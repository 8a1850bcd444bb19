/**
 * A process that seeds a NAR of 64 MiB and a small one, meets a cohort, and serves a hash map over HTTP.
 * crowd.test.ts measures its memory. Prints one line of JSON when it is ready, and its peak memory on SIGUSR2.
 */
import { createHash, randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { IndexServer } from '../../src/publish/index-server.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import type { FileHash, InfoHash } from '../../src/nix/brands.ts';
import type { NarTorrent } from '../../src/torrent/canonical.ts';
import { LocalNetworks } from '../../src/discovery/local-networks.ts';
import { PeerTable } from '../../src/discovery/peer-table.ts';
import { Members } from '../../src/exchange/members.ts';
import { prefixOf, type FilePrefix, type Refusal } from '../../src/exchange/messages/messages.ts';
import type { Offer, OfferedFile, OfferEvents } from '../../src/exchange/answers/offer.ts';
import { SendBudget } from '../../src/wire/send-budget.ts';
import { StoreFile } from '../../src/serve/store-file.ts';
import { Swarm, type Seed } from '../../src/swarm/swarm.ts';
import { keepHeapSmall } from '../../src/cli/start/small-heap.ts';
import { MIB, torrentOf } from './swarm-fixture.ts';

keepHeapSmall(); // like a daemon
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

/** Gives the same files to members. */
class SeedOffer extends EventEmitter<OfferEvents> implements Offer {
  holds(): undefined {
    return undefined;
  }

  async open(file: FileHash | FilePrefix): Promise<OfferedFile | Refusal> {
    for (const { torrent, files } of seeds.values()) {
      const [first] = files;
      const { fileHash } = torrent as NarTorrent;
      if (first === undefined || fileHash !== file) continue;
      return StoreFile.open(first.path, { prefix: prefixOf(fileHash), sizeBytes: first.sizeBytes }) ?? 'absent';
    }
    return 'absent';
  }

  async narInfo(): Promise<undefined> {
    return undefined;
  }
}
const peers = new PeerTable();
const budget = new SendBudget();
const members = new Members({
  budget,
  port: () => 1,
  peers,
  networks: new LocalNetworks(),
  mayHave: () => true,
  offer: new SeedOffer(),
});
members.join(COHORT);
const swarm = await Swarm.listen({
  host: '0.0.0.0',
  peers,
  members,
  budget,
  seeds: async (infoHash) => seeds.get(infoHash),
});
const dir = new IndexDir(join(folder, 'map'));
await dir.writeShard({ prefix: '', sizeBytes: 4 * MIB, sha256: '' }, randomBytes(4 * MIB));
const http = await IndexServer.listen(
  { own: dir, dirOf: () => undefined, openPatch: async () => undefined },
  { serves: 'lan' },
);
process.on('SIGUSR2', () => {
  const peak = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
  console.log(JSON.stringify({ peakMiB: Math.round(Number(peak) / 1024) }));
});
const files = Array.from(seeds.values(), ({ torrent }) => (torrent as NarTorrent).fileHash);
console.log(
  JSON.stringify({ port: swarm.port, httpPort: http.port, cohort: COHORT, infoHashes: [...seeds.keys()], files }),
);
