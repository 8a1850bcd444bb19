/** A lab with the committed cache, for tests that need no closure of their own. */
import { startHttpCache, type HttpCache } from './http-cache.ts';
import { fixtureKey, Lab } from './lab.ts';

export interface FixtureLab {
  readonly lab: Lab;
  /** Serves {@link Lab.fixtureCache}, as long as the lab is open. */
  readonly cache: HttpCache;
  /** The key that signed it. */
  readonly key: string;
}

export async function openFixtureLab(): Promise<FixtureLab> {
  const lab = await Lab.open();
  return { lab, cache: lab.use(await startHttpCache(await lab.fixtureCache())), key: await fixtureKey() };
}
