/** The offer of a machine whose sharing a test decides. */
import type { TestContext } from 'node:test';
import { OfferedEditions } from '../../src/index/files/editions.ts';
import { Gate } from '../../src/serve/gate.ts';
import { HeldNars } from '../../src/serve/held-nars.ts';
import { NarsHere } from '../../src/serve/nars-here.ts';
import { NarOffer } from '../../src/serve/nar-offer.ts';
import type { Verdict } from '../../src/serve/shared-nars.ts';
import type { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { NixNars } from '../../src/store/in-nix/nix-nars.ts';
import { LastServed } from '../../src/store/catalogue/last-served.ts';
import { failOnWarning } from '../support/no-warnings.ts';

/** An offer that counts how often narinfos were judged. */
export interface JudgedOffer {
  readonly offer: NarOffer;
  /** Returns the number of narinfos whose signature was judged so far. */
  readonly judged: () => number;
}

/** Makes the offer of a store in which all narinfos are shared, or none. */
export function judgedOffer(
  t: TestContext,
  { store, catalogue }: { readonly store: FileStore; readonly catalogue: Catalogue },
  { isShared = true } = {},
): JudgedOffer {
  let judged = 0;
  const judge = async (): Promise<Verdict> => ({ isShared: ++judged > 0 && isShared });
  const shared = { judge, includes: async () => (await judge()).isShared, stillHolds: () => true };
  const served = new LastServed(store, failOnWarning);
  const gate = new Gate(store, catalogue, shared);
  const held = new HeldNars(shared);
  const here = new NarsHere({ store, catalogue, nixNars: new NixNars() });
  const offer = new NarOffer({ store, catalogue, gate, held, here, shared, served, maps: new OfferedEditions() });
  t.after(() => offer.close());
  return { offer, judged: () => judged };
}
