import { Command } from 'commander';
import { defaultKeyFile } from '../config/locations.ts';
import { isNarswarmError } from '../errors.ts';
import { formatPublisherAddress } from '../index/address.ts';
import { createPublisherKey, loadPublisherKey, type PublisherKey } from '../index/publisher-key.ts';
import type { Output } from './output.ts';
import { command, type CommonOptions } from './run-command.ts';
import { addCommon } from './shared-options.ts';

interface KeyOptions extends CommonOptions {
  readonly file: string;
  readonly salt: string;
}

export function keyCommand(): Command {
  const key = new Command('key')
    .description('make (never overwrite) or show the key that signs a hash map, and print the publisher’s address')
    .option('--file <file>', 'key file, mode 0600', defaultKeyFile())
    .option('--salt <name>', 'name of the hash map: one key can sign several', '');
  addCommon(key, ['narswarm key', 'narswarm key --file lab.key --salt desktops'], ['NOT_FOUND']);
  return key.action(
    command<KeyOptions, []>(async ({ output, options }) => {
      const { file, salt } = options;
      const { key: opened, created } = await openKey(file, output);
      const address = formatPublisherAddress({ publicKeyHex: Buffer.from(opened.publicKey).toString('hex'), salt });
      output.result('key', { file, created, address }, address);
    }),
  );
}

/** Reads the publisher's key, or makes it where there is none. */
export async function openKey(file: string, output: Output): Promise<{ key: PublisherKey; created: boolean }> {
  try {
    const key = await loadPublisherKey(file);
    if (key.tooOpen) output.warn(`${file} can be read by others: chmod 600 ${file}`);
    return { key, created: false };
  } catch (error) {
    if (!isNarswarmError(error, 'NOT_FOUND')) throw error;
    const key = await createPublisherKey(file);
    output.note(`made ${file}: keep a copy, followers know you by it`);
    return { key, created: true };
  }
}
