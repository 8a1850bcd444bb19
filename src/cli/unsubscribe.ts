import { Command } from 'commander';
import { command, type CommonOptions } from './run-command.ts';
import { addCommon } from './shared-options.ts';

export function unsubscribeCommand(): Command {
  const unsubscribe = new Command('unsubscribe')
    .description('remove a subscription from the config file; the next update may remove the paths that only it kept')
    .argument('<name>', 'its name, as narswarm subscriptions lists it');
  addCommon(unsubscribe, ['narswarm unsubscribe desktop'], []);
  return unsubscribe.action(
    command<CommonOptions, [string]>(async ({ output, config }, name) => {
      const [{ subscriptionNamed }, { removeSubscription }, { editConfigFile }] = await Promise.all([
        import('../config/load.ts'),
        import('../config/edit.ts'),
        import('../config/write.ts'),
      ]);
      const loaded = await config();
      subscriptionNamed(loaded, name);
      await editConfigFile(loaded.path, (text) => removeSubscription(text, name, loaded.path));
      output.result('unsubscribed', { name, config: loaded.path }, `removed ${name} from ${loaded.path}`);
    }),
  );
}
