import { Command, CommanderError } from 'commander';
import { EXIT_STATUSES } from '../errors.ts';
import { claimHome } from '../config/home.ts';
import { configCommand } from './config.ts';
import { configure } from './configuration.ts';
import { addCommand } from './add.ts';
import { completionCommand } from './completion.ts';
import { daemonCommand } from './daemon.ts';
import { demoCommand } from './demo.ts';
import { dhtCommand } from './dht.ts';
import { doctorCommand } from './doctor.ts';
import { fetchCommand } from './fetch.ts';
import { gcCommand } from './gc.ts';
import { keyCommand } from './key.ts';
import { printTo, printJson, reportFailure } from './output.ts';
import { manCommand } from './man.ts';
import { pinCommand, unpinCommand } from './pin.ts';
import { publishCommand } from './publish.ts';
import { serviceCommand } from './service.ts';
import { subscribeCommand } from './subscribe.ts';
import { subscriptionsCommand } from './subscriptions.ts';
import { statusCommand } from './status.ts';
import { torrentCommand } from './torrent.ts';
import { unsubscribeCommand } from './unsubscribe.ts';
import { updateCommand } from './update.ts';
import { verifyCommand } from './verify.ts';
import { VERSION } from '../version.ts';

/**
 * Makes all commands with their options and help: the only definition, from which completions and the manual are made.
 */
export function program(): Command {
  const root = new Command('narswarm')
    .description(
      'Prefetches Nix closures over BitTorrent: torrents for every NAR, found in a signed hash map, with the binary cache as the net below.',
    )
    .version(VERSION)
    .option('--config <file>', 'config file (default: NARSWARM_CONFIG, or the system’s or user’s own)')
    .hook('preAction', (_, action) => configureOrEnd(action))
    .configureOutput(WRITERS)
    .showHelpAfterError('(narswarm COMMAND --help explains every option)')
    .configureHelp({ showGlobalOptions: false });
  for (const command of [
    keyCommand(),
    publishCommand(),
    fetchCommand(),
    addCommand(),
    daemonCommand(),
    serviceCommand(),
    subscribeCommand(),
    unsubscribeCommand(),
    subscriptionsCommand(),
    updateCommand(),
    statusCommand(),
    doctorCommand(),
    configCommand(),
    torrentCommand(),
    verifyCommand(),
    gcCommand(),
    pinCommand(),
    unpinCommand(),
    dhtCommand(),
    demoCommand(),
    completionCommand(),
    manCommand(),
  ]) {
    command.exitOverride(usageStatus).configureOutput(WRITERS).configureHelp({ showGlobalOptions: true });
    root.addCommand(command);
  }
  return root.exitOverride(usageStatus);
}

/** Writers of usage errors, which quote the user's words. */
const WRITERS = {
  writeOut: (text: string): void => printTo(process.stdout, text),
  writeErr: (text: string): void => printTo(process.stderr, text),
};

/** Ends a command before it begins if a config file or variable is malformed. */
async function configureOrEnd(action: Command): Promise<void> {
  try {
    claimHome();
    await configure(action);
  } catch (error) {
    process.exit(reportFailure(error, action.getOptionValue('json') === true));
  }
}

/**
 * Ends a malformed command line with its exit status, help and version with 0. Commander has already told people; a
 * script that asked for JSON gets its event.
 */
function usageStatus(error: CommanderError): never {
  if (error.exitCode === 0) process.exit(0);
  const [exitStatus] = EXIT_STATUSES.USAGE;
  if (process.argv.includes('--json')) {
    const message = error.message.replace(/^error: /, '');
    printJson({ event: 'error', code: 'USAGE', message, exitStatus, facts: {} });
  }
  process.exit(exitStatus);
}
