import { Command } from 'commander';
import { defaultKeyFile } from '../../config/locations.ts';
import { isNarswarmError } from '../../errors.ts';
import { formatPublisherAddress } from '../../index/address.ts';
import {
  generatePublisherKey,
  loadPublisherKey,
  type PublisherIdentity,
  type PublisherKey,
} from '../../index/publisher-key.ts';
import type { Output } from '../output.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon } from '../options/shared-options.ts';

interface KeyOptions extends CommonOptions {
  readonly file: string;
  readonly salt: string;
}

export function keyCommand(): Command {
  const key = new Command('key')
    .summary('make or show the key that signs hash maps')
    .description('create the key that signs hash maps, or read the existing one, and print the publisher’s address')
    .option('--file <file>', 'key file, mode 0600', defaultKeyFile())
    .option('--salt <name>', 'name of the hash map: one key can sign several', '');
  addCommon(key, ['narswarm key', 'narswarm key --file lab.key --salt desktops'], ['NOT_FOUND']);
  return key.action(
    command<KeyOptions, []>(async ({ output, options }) => {
      const { file, salt } = options;
      const { key: opened, isNew: created } = await openKey(file, output);
      await opened.signer();
      const address = formatPublisherAddress({ publicKeyHex: Buffer.from(opened.publicKey).toString('hex'), salt });
      output.result('key', { file, created, address }, address);
    }),
  );
}

/** The publisher's key, for a command. */
export interface OpenedKey {
  readonly key: PublisherIdentity;
  /** True for a new key that is not in a file yet. */
  readonly isNew: boolean;
}

/** Reads the publisher's key. Makes a new one if there is none. */
export async function openKey(file: string, output: Output): Promise<OpenedKey> {
  try {
    const key = await loadPublisherKey(file);
    if (key.tooOpen) output.warn(`${file} can be read by others: chmod 600 ${file}`);
    return { key, isNew: false };
  } catch (error) {
    if (!isNarswarmError(error, 'NOT_FOUND')) throw error;
  }
  const fresh = generatePublisherKey();
  let saving: Promise<PublisherKey> | undefined;
  const saved = async (): Promise<PublisherKey> => {
    const key = await fresh.save(file);
    output.note(`made ${file}: keep a copy, followers know you by it`);
    return key;
  };
  return { key: { publicKey: fresh.publicKey, signer: () => (saving ??= saved()) }, isNew: true };
}
