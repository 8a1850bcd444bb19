/**
 * A member that fetches NARs from one seeder: `seed-client.ts PORT GROUP LIST OPEN`. LIST has a FileHash and a size on each line;
 * OPEN requests are open at a time. Prints its figures as a line of JSON.
 */
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { PeerTable } from '../../src/discovery/peer-table.ts';
import type { Member } from '../../src/exchange/member.ts';
import { Members } from '../../src/exchange/members.ts';
import { EmptyOffer } from '../../src/exchange/answers/offer.ts';
import type { FileHash, InfoHash } from '../../src/nix/brands.ts';
import { encodeNix32 } from '../../src/nix/nix32.ts';

const [port = '', group = '', list = '', open = '1'] = process.argv.slice(2);
const files = readFileSync(list, 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => {
    const [file, size] = line.split(' ');
    return { file: file as FileHash, sizeBytes: Number(size) };
  });
const { signal } = new AbortController();
const peers = new PeerTable();
const members = new Members({
  port: () => 1,
  peers,
  networks: { includes: () => true },
  mayHave: () => false,
  offer: new EmptyOffer(),
});
members.join(group as InfoHash);
members.addPeer(peers.add({ host: '127.0.0.1', port: Number(port) }));
const [member] = (await once(members, 'member')) as [Member];

const firstBytesMs: number[] = [];
let receivedBytes = 0;
let next = 0;
/** Fetches NARs one after another, and checks small ones like a download. */
async function lane(): Promise<void> {
  for (let task = files[next++]; task !== undefined; task = files[next++]) {
    const { file, sizeBytes } = task;
    const whole = sizeBytes <= 1024 * 1024 ? Buffer.allocUnsafe(sizeBytes) : undefined;
    const askedAtMs = performance.now();
    let at = 0;
    const onBytes = (bytes: Uint8Array): void => {
      if (at === 0) firstBytesMs.push(performance.now() - askedAtMs);
      whole?.set(bytes, at);
      at += bytes.length;
    };
    const outcome = await member.get({ file, from: 0, length: sizeBytes }, onBytes, signal);
    if (outcome !== 'complete') throw new Error(`${file}: ${outcome}`);
    if (whole !== undefined && encodeNix32(hash('sha256', whole, 'buffer')) !== file)
      throw new Error(`${file} is wrong`);
    receivedBytes += at;
  }
}
const startedAtMs = performance.now();
await Promise.all(Array.from({ length: Number(open) }, lane));
const seconds = (performance.now() - startedAtMs) / 1000;
const sorted = firstBytesMs.toSorted((a, b) => a - b);
const percentile = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
console.log(
  JSON.stringify({ nars: files.length, seconds, receivedBytes, p50Ms: percentile(0.5), p99Ms: percentile(0.99) }),
);
process.exit(0);
