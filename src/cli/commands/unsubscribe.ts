import { Command } from 'commander';
import { join } from 'node:path';
import { defaultStoreDir } from '../../config/locations.ts';
import { STATE_FOLDER } from '../../store/state-folder.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon } from '../options/shared-options.ts';
import { formatCount } from '../words/values.ts';

interface UnsubscribeOptions extends CommonOptions {
  readonly store: string;
}

export function unsubscribeCommand(): Command {
  const unsubscribe = new Command('unsubscribe')
    .summary('remove a subscription')
    .description(
      'remove a subscription from the config file, and its GC roots; the next update may remove the paths that only it kept',
    )
    .argument('<name>', 'its name, as narswarm subscriptions lists it')
    .option('--store <dir>', 'file store that updates fill', defaultStoreDir());
  addCommon(unsubscribe, ['narswarm unsubscribe desktop'], ['STORE']);
  return unsubscribe.action(
    command<UnsubscribeOptions, [string]>(async ({ output, options, config }, name) => {
      const [{ subscriptionNamed }, { removeSubscription }, { editConfigFile }, { removeRoots }] = await Promise.all([
        import('../../config/load.ts'),
        import('../../config/edit.ts'),
        import('../../config/write.ts'),
        import('../../subscription/room/gc-roots.ts'),
      ]);
      const loaded = await config();
      subscriptionNamed(loaded, name);
      await editConfigFile(loaded.path, (text) => removeSubscription(text, name, loaded.path));
      const roots = await removeRoots({ stateDir: join(options.store, STATE_FOLDER) }, name);
      const also = roots === 0 ? '' : `, and its ${formatCount(roots, 'GC root')}: Nix may collect the paths now`;
      output.result('unsubscribed', { name, config: loaded.path, roots }, `removed ${name} from ${loaded.path}${also}`);
    }),
  );
}
