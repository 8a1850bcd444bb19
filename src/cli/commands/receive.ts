import { join } from 'node:path';
import { Command } from 'commander';
import { pushDir } from '../../config/locations.ts';
import { NarswarmError } from '../../errors.ts';
import type { ImportWay } from '../../nix/programs/import-way.ts';
import { RUN_PORTS } from '../../wire/ports.ts';
import { VERSION } from '../../version.ts';
import { errorSentence } from '../words/error-sentences.ts';
import { assertMayLeaveUnchecked } from '../options/ignored-keys.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon, limitsOf, type RateFlags } from '../options/shared-options.ts';
import { addImport } from '../options/source-options.ts';
import { readNixKeys } from '../options/trust.ts';
import { parseAddress, parsePort } from '../words/values.ts';
import { warningSentence } from '../words/warnings.ts';

interface ReceiveFlags extends CommonOptions, RateFlags {
  readonly for?: string;
  readonly to?: string;
  readonly importWith?: ImportWay;
  readonly listen?: string;
  readonly port?: number;
}

export function receiveCommand(): Command {
  const receive = new Command('receive')
    .summary('the other side of push, which runs it')
    .description('the other side of narswarm push, which runs it over ssh');
  addImport(receive)
    .option('--for <version>', 'version of the narswarm that pushes; any other one ends at once (exit status 2)')
    .option('--to <store-uri>', 'Nix store to import into (default: the local one)')
    .option('--listen <address>', 'address to listen on (default: all)', parseAddress)
    .option('--port <port>', 'TCP port for peers; 0 picks one', parsePort);
  addCommon(
    receive,
    ['ssh root@server narswarm receive'],
    ['UNTRUSTED', 'SOURCES_FAILED', 'STORE', 'NIX', 'INTERRUPTED'],
  );
  return receive.action(
    command<ReceiveFlags, []>(async ({ signal, options }) => {
      if (options.for !== undefined && options.for !== VERSION)
        throw new NarswarmError('USAGE', `the push is by narswarm ${options.for}, and this is ${VERSION}`);
      const { receive: receivePush } = await import('../../push/receive.ts');
      const [push = '', , own = ''] = (process.env['SSH_CONNECTION'] ?? '').split(' ');
      await receivePush({
        input: process.stdin,
        output: process.stdout,
        version: VERSION,
        storeDir: join(pushDir(), 'incoming'),
        endedDir: join(pushDir(), 'ended'),
        to: options.to,
        importWith: options.importWith,
        network: { listen: options.listen, ports: options.port === undefined ? RUN_PORTS.peers : [options.port] },
        limits: limitsOf(options),
        connection: { own, push },
        keysOfNix: () => readNixKeys(signal),
        assertMayTrust: () => assertMayLeaveUnchecked(options.to, signal),
        warningInWords: warningSentence,
        errorInWords: errorSentence,
        signal,
      });
    }),
  );
}
