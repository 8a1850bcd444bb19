import { resolve } from 'node:path';
import { Command } from 'commander';
import { NarswarmError } from '../../errors.ts';
import { canBeReady, READY_NEEDS, SUBSCRIPTION_NAME } from '../../subscription/subscription.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { shownSource } from '../../subscription/subscription.ts';
import { addCommon } from '../options/shared-options.ts';

interface SubscribeOptions extends CommonOptions {
  readonly file?: string;
  readonly import: boolean;
  readonly to?: string;
  readonly profile?: string;
  readonly switchTo?: string;
  readonly sources: boolean;
  readonly ready: boolean;
  readonly publish: boolean;
  readonly replace?: boolean;
}

export function subscribeCommand(): Command {
  const subscribe = new Command('subscribe')
    .summary('add a subscription to the config file')
    .description('add a subscription to the config file, for narswarm update to fetch')
    .argument('<name>', 'name for it, of A-Z a-z 0-9 . _ -')
    .argument(
      '<source>',
      'PUBLISHER#ROOT, a store path or its hash part, a file or URL of store paths, an installable, or a profile',
    )
    .option('-f, --file <file>', 'Nix file in which SOURCE is an attribute')
    .option('--import', 'import it into the Nix store with nix copy after each update', false)
    .option('--to <store-uri>', 'Nix store to import into, instead of the local one')
    .option('--profile <path>', 'Nix profile that gets each imported generation, such as /nix/var/nix/profiles/night')
    .option(
      '--switch-to <path>',
      'link to what runs now, such as /run/current-system: updates tell what a switch would change',
    )
    .option('--sources', 'fetch the sources of its build closure, too', false)
    .option('--ready', 'fetch what a rebuild without a network would lack, too; needs --import', false)
    .option('--publish', 'make it a named root of this machine’s own hash map', false)
    .option('--replace', 'replace a subscription of that name');
  addCommon(
    subscribe,
    [
      'narswarm subscribe desktop "magnet:?xs=urn:btpk:…#desktop" --import',
      'narswarm subscribe system /run/current-system --publish',
      'narswarm subscribe lab /etc/nixos#nixosConfigurations.lab.config.system.build.toplevel --import --ready',
      'narswarm subscribe stdenv stdenv --file ./default.nix --sources',
      'narswarm subscribe channel https://channels.nixos.org/nixos-unstable/store-paths.xz',
    ],
    [],
  );
  return subscribe.action(
    command<SubscribeOptions, [string, string]>(async ({ output, config, options }, name, written) => {
      if (!SUBSCRIPTION_NAME.test(name))
        throw new NarswarmError(
          'USAGE',
          `${JSON.stringify(name)} is not a name for a subscription: give one of at most 64 characters A-Z a-z 0-9 . _ - that begins with a letter or digit`,
        );
      if (options.to !== undefined && !options.import)
        throw new NarswarmError('USAGE', '--to names a store to import into: give --import, too');
      if (options.profile !== undefined && !options.import)
        throw new NarswarmError('USAGE', '--profile gets the imported paths: give --import, too');
      if (options.ready && !canBeReady(options))
        throw new NarswarmError('USAGE', `--ready needs --import, and no --to: ${READY_NEEDS}`);
      const [{ absoluteSource }, { addSubscription, replaceSubscription }, { checkPlace }, { editConfigFile }] =
        await Promise.all([
          import('../../subscription/source/absolute-source.ts'),
          import('../../config/edit.ts'),
          import('../../config/source-check.ts'),
          import('../../config/write.ts'),
        ]);
      const { source, file } = absoluteSource(options.file === undefined ? await spelledOut(written) : written, {
        file: options.file,
        cwd: process.cwd(),
      });
      const absent = await checkPlace({ source, file });
      const { import: imports, to, sources, ready, publish } = options;
      const [profile, switchTo] = [options.profile, options.switchTo].map((path) => path && resolve(path));
      const subscription = { name, source, file, import: imports, to, profile, switchTo, sources, ready, publish };
      const { path, subscriptions } = await config();
      const replaces = options.replace === true && subscriptions.some((known) => known.name === name);
      const edit = replaces ? replaceSubscription : addSubscription;
      await editConfigFile(path, (text) => edit(text, subscription, path));
      const { mirrored } = await import('../../subscription/mirror.ts');
      const isMirror = mirrored(subscription) !== undefined;
      output.result(
        'subscribed',
        {
          ...subscription,
          source: shownSource(source),
          file: file ?? null,
          to: to ?? null,
          profile: profile ?? null,
          switchTo: switchTo ?? null,
          config: path,
          replaced: replaces,
        },
        `${replaces ? 'replaced' : 'added'} ${name} in ${path}: ${isMirror ? 'a running narswarm daemon fetches it by itself, and ' : ''}narswarm update ${name} fetches it${isMirror ? ' now' : ''}`,
      );
      if (absent !== undefined) output.note(`there is no ${absent} yet: updates fail until there is`);
    }),
  );
}

/** Completes a word without a slash that names a store path, or a link such as `result` in the working folder. */
async function spelledOut(word: string): Promise<string> {
  if (/[/#:]/.test(word)) return word;
  const { findNamedPath, wholePath } = await import('../../nix/named-path.ts');
  const { isLink } = await import('../../nix/follow-links.ts');
  if (await isLink(word)) return `./${word}`;
  const named = await findNamedPath(word);
  return named === undefined ? word : wholePath(named);
}
