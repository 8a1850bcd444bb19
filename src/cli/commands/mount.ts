import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { isNarswarmError } from '../../errors.ts';
import { STATE_FOLDER } from '../../store/state-folder.ts';
import type { MountEvent } from '../../mount/mount-closure.ts';
import { saveCompiled } from '../start/compile-cache.ts';
import { errorSentence } from '../words/error-sentences.ts';
import { assertFolderWord } from '../words/folder-word.ts';
import { toldFailure } from '../words/missing-paths.ts';
import type { Output } from '../output.ts';
import { progressDisplay } from '../live/progress-display.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon, addNetwork, defaultStoreDir } from '../options/shared-options.ts';
import { addSources, FETCH_STATUSES, readSources, type SourceFlags } from '../options/source-options.ts';
import { orSubscription } from '../words/unknown-name.ts';
import { formatCount, formatDuration, formatSize } from '../words/values.ts';

interface MountFlags extends CommonOptions, SourceFlags {
  readonly file?: string;
  readonly store: string;
}

/**
 * Limit on the time for the end of the command. Then it is killed, since programs that read from the mount would wait.
 */
const STOP_MS = 8_000;

export function mountCommand(): Command {
  const mount = new Command('mount')
    .summary('show closures below a folder')
    .description(
      'show closures below a folder, read-only: a NAR is fetched when a file in it is first opened, and listings of caches are enough to look around (Linux, as root)',
    )
    .argument('<dir>', 'empty folder to mount on; the store paths appear in it')
    .argument(
      '<root...>',
      'what to show, as for fetch, or the name of a subscription, which stands for its newest complete generation',
    )
    .usage('[options] <dir> <root|subscription...>')
    .option('-f, --file <file>', 'Nix file in which the ROOTs are attributes')
    .option('--store <dir>', 'file store that NARs are fetched into', defaultStoreDir());
  addSources(mount);
  addNetwork(mount, { scope: 'lan' });
  addCommon(
    mount,
    [
      'narswarm mount /mnt/lab desktop',
      'narswarm mount /mnt/lab nixpkgs#hello & ls /mnt/lab/*/bin; umount /mnt/lab',
      'narswarm mount /mnt/lab /nix/store/…-nixos-system-lab --from https://cache.example.org',
      'unshare --user --map-root-user --mount sh -c "narswarm mount ~/lab nixpkgs#hello & exec sh"   # not as root',
    ],
    [...FETCH_STATUSES, 'MOUNT'],
  );
  return mount.action(
    command<MountFlags, [string, readonly string[]]>(
      async ({ output, signal, options, originOf, config: load }, dir, words) => {
        const config = await load();
        const { subscriptions: configured } = config;
        assertFolderWord(dir, configured, { place: 'first', folder: 'the folder to mount on' });
        const { readWhatToPack } = await import('../../suitcase/what-to-pack.ts');
        const store = { stateDir: join(resolve(options.store), STATE_FOLDER) };
        const what = await readWhatToPack(words, { file: options.file, withSources: false, store, configured, signal });
        for (const name of what.behind)
          output.warn(`the newest generation of ${name} is not complete here: the one before it is shown`);
        const publisher = [...(options.publisher ?? []), ...what.publishers];
        const sources = await readSources({ ...options, publisher }, { output, signal, originOf });
        const { mountClosure } = await import('../../mount/mount-closure.ts');
        using display = progressDisplay(output);
        let isMounted = false;
        let hasUnlisted = false;
        await mountClosure({
          ...sources,
          sources,
          storeDir: options.store,
          dir,
          roots: what.roots,
          signal,
          onWarning: display.handlers.onWarning,
          tell: (event) => {
            if (!isMounted || event.type === 'warning') display.handlers.tell(event);
          },
          onMount: (event) => {
            if (event.type === 'mounted') {
              display.stop();
              isMounted = true;
              saveCompiled();
            }
            if (event.type === 'unlisted' && !hasUnlisted) {
              hasUnlisted = true;
              output.warn(`no cache has a listing of ${event.path}: such NARs are fetched to list them`);
            }
            tellEvent(output, event);
          },
          lackError: (error, lack) => toldFailure(error, lack),
        }).catch((error: unknown) => {
          throw orSubscription(error, config);
        });
        const shown = resolve(dir);
        output.result('unmounted', { dir: shown }, `unmounted ${shown}`);
      },
      { stopMs: STOP_MS },
    ),
  );
}

function tellEvent(output: Output, event: MountEvent): void {
  switch (event.type) {
    case 'mounted': {
      const { dir, paths, narBytes } = event;
      const text = `mounted  ${formatCount(paths, 'path')} on ${dir}, ${formatSize(narBytes)} unpacked; Ctrl-C or umount ${dir} ends it`;
      output.result('mounted', { dir, paths, narBytes }, text);
      return;
    }
    case 'opening':
      if (output.json) output.result('opening', { path: event.path, narSize: event.narSize });
      return;
    case 'opened': {
      const { path, durationMs } = event;
      if (output.json) output.result('opened', { path, durationMs: Math.round(durationMs) });
      else output.note(`${path} is here, after ${formatDuration(durationMs)}`);
      return;
    }
    case 'failed': {
      const { path, error } = event;
      const reason = isNarswarmError(error, 'STORE_FULL')
        ? 'the disk of the file store is full: free some space, then open the file again'
        : errorSentence(error);
      output.warn(path === undefined ? reason : `${path} cannot be read now: ${reason}`, { path, reason });
      return;
    }
    case 'unlisted':
      if (output.json) output.result('unlisted', { path: event.path });
  }
}
