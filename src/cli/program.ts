import { CommanderError, type Command } from 'commander';
import { EXIT_STATUSES } from '../errors.ts';
import { claimHome } from '../config/home.ts';
import { configure, Program } from './options/configuration.ts';
import { ownFirst } from './options/option-groups.ts';
import { printTo, printJson, reportFailure } from './output.ts';
import { VERSION } from '../version.ts';

/** Loads each command, in the order of the help. */
const COMMANDS = {
  key: async () => (await import('./commands/key.ts')).keyCommand(),
  publish: async () => (await import('./commands/publish.ts')).publishCommand(),
  fetch: async () => (await import('./commands/fetch.ts')).fetchCommand(),
  add: async () => (await import('./commands/add.ts')).addCommand(),
  daemon: async () => (await import('./commands/daemon.ts')).daemonCommand(),
  service: async () => (await import('./commands/service.ts')).serviceCommand(),
  subscribe: async () => (await import('./commands/subscribe.ts')).subscribeCommand(),
  unsubscribe: async () => (await import('./commands/unsubscribe.ts')).unsubscribeCommand(),
  subscriptions: async () => (await import('./commands/subscriptions.ts')).subscriptionsCommand(),
  update: async () => (await import('./commands/update.ts')).updateCommand(),
  status: async () => (await import('./commands/status.ts')).statusCommand(),
  ready: async () => (await import('./commands/ready.ts')).readyCommand(),
  doctor: async () => (await import('./commands/doctor.ts')).doctorCommand(),
  config: async () => (await import('./commands/config.ts')).configCommand(),
  torrent: async () => (await import('./commands/torrent.ts')).torrentCommand(),
  verify: async () => (await import('./commands/verify.ts')).verifyCommand(),
  gc: async () => (await import('./commands/gc.ts')).gcCommand(),
  pin: async () => (await import('./commands/pin.ts')).pinCommand(),
  unpin: async () => (await import('./commands/pin.ts')).unpinCommand(),
  pack: async () => (await import('./commands/pack.ts')).packCommand(),
  unpack: async () => (await import('./commands/unpack.ts')).unpackCommand(),
  mount: async () => (await import('./commands/mount.ts')).mountCommand(),
  push: async () => (await import('./commands/push.ts')).pushCommand(),
  receive: async () => (await import('./commands/receive.ts')).receiveCommand(),
  dht: async () => (await import('./commands/dht.ts')).dhtCommand(),
  demo: async () => (await import('./commands/demo.ts')).demoCommand(),
  completion: async () => (await import('./commands/completion.ts')).completionCommand(),
  man: async () => (await import('./commands/man.ts')).manCommand(),
} as const;
type CommandName = keyof typeof COMMANDS;

/** Commands that need the definitions of all commands. */
const OF_ALL: ReadonlySet<string> = new Set(['completion', 'man'] satisfies CommandName[]);

/**
 * Returns the only command that a command line needs; loading only this one halves the time to start. Undefined if all
 * may be needed.
 *
 * @param args the words after the program's name
 */
export function onlyCommand([first = '']: readonly string[]): CommandName | undefined {
  return Object.hasOwn(COMMANDS, first) && !OF_ALL.has(first) ? (first as CommandName) : undefined;
}

/**
 * Makes the commands with their options and help. Completions and the manual are made from this definition, too.
 *
 * @param only the one command to load. Default: all
 */
export async function program(only?: CommandName): Promise<Command> {
  const root = new Program('narswarm')
    .description(
      'Prefetches Nix closures over BitTorrent: NARs come from neighbours and from followers of a publisher, and from the binary cache if no peer has them.',
    )
    .version(VERSION)
    .option('--config <file>', 'config file (default: NARSWARM_CONFIG, or the system’s or user’s own)')
    .hook('preAction', (_, action) => configureOrEnd(action))
    .configureOutput(WRITERS)
    .configureHelp({ showGlobalOptions: false, subcommandTerm: termOf });
  const loads = only === undefined ? Object.values(COMMANDS) : [COMMANDS[only]];
  for (const command of await Promise.all(loads.map((load) => load()))) {
    command
      .exitOverride((error) => endOfUsage(error, `narswarm ${command.name()}`))
      .configureOutput(WRITERS)
      .configureHelp({ showGlobalOptions: true, groupItems: ownFirst });
    root.addCommand(command);
  }
  return root.exitOverride((error) => endOfUsage(error, 'narswarm'));
}

/**
 * Returns the words for commander. It answers a request for the help of an unknown command with the help of the program;
 * without that request it refuses the command, and names the nearest one.
 *
 * @param args the words after the program's name
 */
export function wordsToParse(args: readonly string[]): readonly string[] {
  const [asked = '', ...others] = args[0] === 'help' ? args.slice(1) : args;
  if (asked === 'help') return ['help'];
  if (asked === '' || asked.startsWith('-') || Object.hasOwn(COMMANDS, asked)) return args;
  return [asked, ...others.filter((word) => word !== '--help' && word !== '-h')];
}

/** Returns a command and its arguments, for the list of commands. All of them have options. */
function termOf(command: Command): string {
  const words = command.registeredArguments.map((argument) => {
    const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
    return argument.required ? `<${name}>` : `[${name}]`;
  });
  return [command.name(), ...words].join(' ');
}

/** Write help. Usage errors are written at the end of the process. */
const WRITERS = {
  writeOut: (text: string): void => printTo(process.stdout, text),
  writeErr: (text: string): void => printTo(process.stderr, text),
  outputError: (): void => undefined,
};

/** Configures a command. Ends the process if a config file or variable is malformed. */
async function configureOrEnd(action: Command): Promise<void> {
  try {
    claimHome();
    await configure(action);
  } catch (error) {
    process.exit(reportFailure(error, { json: action.getOptionValue('json') === true }));
  }
}

/** Malformed command lines whose error does not name the right form. Errors of wrong values do. */
const UNEXPLAINED = new Set(
  ['missingArgument', 'unknownOption', 'unknownCommand', 'excessArguments', 'optionMissingArgument'].map(
    (code) => `commander.${code}`,
  ),
);

/**
 * Ends the process for a malformed command line with its exit status, and for help and version with 0. Prints the
 * error, unless the help has just been printed.
 */
function endOfUsage({ exitCode, code, message }: CommanderError, command: string): never {
  if (exitCode === 0) process.exit(0);
  const [exitStatus] = EXIT_STATUSES.USAGE;
  if (code === 'commander.help') process.exit(exitStatus);
  const what = message.replace(/^error: |\.$/g, '').replace('\n(Did', ' (did');
  const sentence = UNEXPLAINED.has(code) ? `${what}: see ${command} --help` : what;
  if (process.argv.includes('--json'))
    printJson({ event: 'error', code: 'USAGE', message: sentence, exitStatus, facts: {} });
  printTo(process.stderr, `error: ${sentence}\n`, 'error');
  process.exit(exitStatus);
}
