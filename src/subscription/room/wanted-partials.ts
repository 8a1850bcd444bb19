import type { PrefetchResult } from '../../fetch/prefetch-result.ts';
import type { Updated } from '../update/update.ts';

/**
 * Returns the names of the partial files of planned NARs. Undefined if a path could not be planned: a source may have it
 * next time, and then its partial file is continued.
 */
export function partialsOf(parts: readonly PrefetchResult[]): Set<string> | undefined {
  const names = new Set<string>();
  for (const { plan, missing } of parts) {
    const planned = new Set<string>();
    for (const { fileHash, storePaths } of plan.jobs) {
      names.add(fileHash);
      for (const path of storePaths) planned.add(path);
    }
    for (const { storePath } of plan.unsized) planned.add(storePath); // such a NAR is never continued
    if (missing.some(({ path, isNowhere }) => !isNowhere && !planned.has(path))) return undefined;
  }
  return names;
}

/**
 * Returns the names of the partial files that these subscriptions need. Undefined unless a run planned all of them.
 *
 * @param subscriptions those of the configuration, and those of other config files, which have a state
 */
export function partialsOfAll(
  updated: readonly Updated[],
  subscriptions: readonly { readonly name: string }[],
): Set<string> | undefined {
  const wanted = new Map(updated.map(({ subscription, wantedPartials }) => [subscription.name, wantedPartials]));
  const all = new Set<string>();
  for (const { name } of subscriptions) {
    const names = wanted.get(name);
    if (names === undefined) return undefined;
    for (const file of names) all.add(file);
  }
  return all;
}
