import { Command } from 'commander';
import { readNamedPath } from '../../nix/named-path.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { defaultStoreDir } from '../../config/locations.ts';
import { addCommon } from '../options/shared-options.ts';
import { formatCount } from '../words/values.ts';

interface PinOptions extends CommonOptions {
  readonly store: string;
}

export function pinCommand(): Command {
  const pin = new Command('pin')
    .summary('keep closures in the file store')
    .description('keep the closures of store paths in the file store; without a path, list the pinned ones')
    .argument('[path...]', 'store path, a link to one such as ./result, or its hash part')
    .option('--store <dir>', 'file store that holds them', defaultStoreDir());
  addCommon(
    pin,
    ['narswarm pin /nix/store/…-installer-25.05', 'narswarm pin', 'narswarm pin --json | jq -r .path'],
    ['NOT_FOUND', 'STORE', 'INTERRUPTED'],
  );
  return pin.action(
    command<PinOptions, [readonly string[]]>(async ({ output, signal, options }, paths) => {
      const { FileStore } = await import('../../store/file-store.ts');
      const { addPin, listPins } = await import('../../store/pins.ts');
      const store = await FileStore.open(options.store, { create: false });
      if (paths.length === 0) {
        const pins = await listPins(store);
        for (const { storePath, at } of pins) output.result('pin', { path: storePath, at }, storePath);
        if (pins.length === 0) output.note(`nothing is pinned in ${store.dir}`);
        return;
      }
      for (const text of paths) {
        const { storePath, at } = await addPin(store, await readNamedPath(text), new Date(), signal);
        output.result('pinned', { path: storePath, at }, storePath);
      }
      output.note(
        `${formatCount(paths.length, 'path')} pinned: narswarm gc keeps ${paths.length === 1 ? 'its closure' : 'their closures'}`,
      );
    }),
  );
}

export function unpinCommand(): Command {
  const unpin = new Command('unpin')
    .summary('let go of pinned closures')
    .description('stop keeping the closures of pinned store paths')
    .argument('<path...>', 'store path, a link to one such as ./result, or its hash part')
    .option('--store <dir>', 'file store that holds them', defaultStoreDir());
  addCommon(unpin, ['narswarm unpin /nix/store/…-installer-25.05'], ['NOT_FOUND', 'STORE']);
  return unpin.action(
    command<PinOptions, [readonly string[]]>(async ({ output, options }, paths) => {
      const { FileStore } = await import('../../store/file-store.ts');
      const { removePin } = await import('../../store/pins.ts');
      const store = await FileStore.open(options.store, { create: false });
      for (const text of paths) {
        const { storePath } = await removePin(store, await readNamedPath(text));
        output.result('unpinned', { path: storePath }, storePath);
      }
    }),
  );
}
