/** Shows the state of a store's running daemon, which the daemon itself reports. */
import { join, resolve } from 'node:path';
import type { DaemonFacts, EditionFacts } from '../../daemon/facts.ts';
import { pidOfOwner } from '../../disk/owner.ts';
import { STATE_FOLDER } from '../../store/state-folder.ts';
import { parsePublisherAddress } from '../../index/address.ts';
import { fittedFacts } from './fitting.ts';
import type { Output } from '../output.ts';
import { mappingSentence } from '../port-mapping.ts';
import { whenInWords } from './times.ts';
import { formatCount, formatSize } from './values.ts';

/** A daemon whose event loop runs answers within milliseconds. */
const ANSWER_MS = 1_000;
/** Limit on members and maps shown to people. With --json, all are listed. */
const SHOWN = 10;

/** Asks the daemon of a store, and shows its facts, or why there are none. */
export async function tellDaemon(output: Output, storeDir: string): Promise<void> {
  const { askDaemon } = await import('../../daemon/facts-socket.ts');
  const { ownersAtWork } = await import('../../store/turn.ts');
  const store = { stateDir: join(resolve(storeDir), STATE_FOLDER) };
  const asked = await askDaemon(store, ANSWER_MS);
  if (asked.kind === 'running') {
    const { maps, published } = asked.facts;
    const addresses = [...maps, ...(published === null ? [] : [published])].map(({ address }) =>
      parsePublisherAddress(address),
    );
    const text = fittedFacts(output, daemonLines(asked.facts, new Date()), addresses);
    output.result('daemon', { state: 'running', ...asked.facts }, text);
    return;
  }
  if (asked.kind === 'other') {
    const { version, pid } = asked;
    const text = `daemon: process ${pid} is of version ${version}, which this one does not understand: restart it`;
    output.result('daemon', { state: 'other', version, pid }, text);
    return;
  }
  const [owner] = asked.kind === 'denied' ? [] : await ownersAtWork(store, 'serving');
  const pid = owner === undefined ? null : Number(pidOfOwner(owner));
  const state = asked.kind === 'none' && pid !== null ? 'silent' : asked.kind;
  const [seeding] = state === 'none' ? await ownersAtWork(store, 'seeding') : [];
  const publisherPid = seeding === undefined ? null : Number(pidOfOwner(seeding));
  const facts = { state, ...(state === 'silent' && { pid }), ...(publisherPid !== null && { publisherPid }) };
  output.result('daemon', facts, withoutFacts(state, pid, publisherPid));
}

function withoutFacts(state: 'none' | 'denied' | 'silent', pid: number | null, publisherPid: number | null): string {
  switch (state) {
    case 'none':
      return publisherPid === null
        ? 'daemon: none serves this store'
        : `daemon: none serves this store, but narswarm publish does (process ${publisherPid})`;
    case 'denied':
      return 'daemon: only the user of the store, and root, may ask it';
    default:
      return `daemon: process ${pid ?? '?'} serves this store, but does not answer`;
  }
}

/** Returns the facts that change, in one short sentence. */
export function statusText({ nars, port, members, updating }: DaemonFacts): string {
  const work = updating.length === 0 ? '' : `; updating ${updating.join(', ')}`;
  return `offers ${formatCount(nars, 'NAR')} on port ${port} to ${formatCount(members.length, 'member')}${work}`;
}

/** Yields the lines about a daemon, for people. */
export function* daemonLines(facts: DaemonFacts, now: Date): Generator<string> {
  const { nars, port, scope, startedAt, pid, served, members, maps, published, updating, substituters, portMapping } =
    facts;
  yield `daemon: offers ${formatCount(nars, 'NAR')} on port ${port} (scope ${scope}, process ${pid}); started ${whenInWords(startedAt, now)}`;
  yield `  served    ${formatCount(served.nars, 'NAR')}: ${formatSize(served.bytesToMembers)} to members, ${formatSize(served.bytesToClients)} to BitTorrent clients`;
  if (served.bytesToNix + served.bytesOverHttp > 0)
    yield `  over HTTP ${formatSize(served.bytesToNix)} to Nix on this machine, ${formatSize(served.bytesOverHttp)} to other machines`;
  if (portMapping !== null) yield `  router    ${mappingSentence(portMapping)}`;
  for (const url of substituters) yield `  for Nix   ${url}`;
  if (members.length === 0) yield '  members   none connected';
  for (const { address, isNeighbour, holds, sentBytes, gaveBytes } of members.slice(0, SHOWN)) {
    const held = holds === null ? '' : `holds ${holds} of these NARs, `;
    yield `  member    ${address}${isNeighbour ? '' : ' (not on this network)'}: ${held}got ${formatSize(sentBytes)}, gave ${formatSize(gaveBytes)}`;
  }
  if (members.length > SHOWN) yield `              and ${members.length - SHOWN} more members`;
  for (const { address, edition } of maps.slice(0, SHOWN))
    yield `  hash map  ${address}: ${edition === null ? 'not found yet' : editionInWords(edition, now)}`;
  if (maps.length > SHOWN) yield `              and ${maps.length - SHOWN} more hash maps`;
  if (published !== null) yield `  publishes ${published.address}: ${editionInWords(published.edition, now)}`;
  if (updating.length > 0) yield `  updating  ${updating.join(', ')}`;
}

function editionInWords({ seq, created, records }: EditionFacts, now: Date): string {
  return `edition ${seq} with ${formatCount(records, 'NAR')}, made ${whenInWords(created, now)}`;
}
