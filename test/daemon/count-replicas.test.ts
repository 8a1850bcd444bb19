import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { Census } from '../../src/daemon/census.ts';
import { countReplicas, type CountContext } from '../../src/daemon/count-replicas.ts';
import { prefixOf } from '../../src/exchange/messages/messages.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import type { CatalogueEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import { startMember, type MadeMember } from '../exchange/exchange-fixture.ts';
import { LEAF, NOTE, TOP } from '../nix/fixtures.ts';
import { judgedOffer, type JudgedOffer } from '../serve/offer-fixture.ts';
import { entryFor, filledStore } from '../store/store-fixture.ts';

interface Holder extends Omit<CountContext, 'offer'>, JudgedOffer {
  readonly entries: readonly CatalogueEntry[];
}

/** Returns a machine that holds three NARs outside of any root. */
async function holder(t: TestContext, { members }: MadeMember): Promise<Holder> {
  const store = await filledStore(t);
  const catalogue = await Catalogue.open(store);
  const entries = await Promise.all([LEAF, NOTE, TOP].map((hash) => entryFor(store, hash)));
  await catalogue.add(entries);
  const { offer, judged } = judgedOffer(t, { store, catalogue });
  const [now, signal] = [() => new Date(), new AbortController().signal];
  const census = new Census(members, () => false);
  return { store, catalogue, census, offer, now, signal, entries, judged };
}

test('without other machines, no NAR is examined', async (t) => {
  await using alone = await startMember();
  const context = await holder(t, alone);
  const looks = t.mock.method(context.offer, 'lookAtAll');
  const { machines, sole } = await countReplicas([], context);
  assert.deepEqual([machines, sole, looks.mock.callCount()], [0, [], 0]);
});

test('NARs outside of roots are counted once the gate has admitted them', async (t) => {
  await using self = await startMember();
  await using other = await startMember();
  const context = await holder(t, self);
  const [leaf, ...rest] = context.entries;
  other.offer.files.set(prefixOf(leaf!.fileHash), Buffer.alloc(0));
  const met = once(self.members, 'member');
  self.meet(other);
  await met;
  const first = await countReplicas([], context);
  assert.equal(first.machines, 1);
  while (!context.entries.every((entry) => context.offer.hasPassed(entry))) await once(context.offer, 'news');
  assert.equal(context.judged(), 3);
  const { sole, held } = await countReplicas([], context);
  assert.deepEqual(Object.values(held ?? {}), [1]);
  assert.deepEqual(sole.toSorted(), rest.map(({ fileHash, extension }) => `${fileHash}.nar.${extension}`).toSorted());
});
