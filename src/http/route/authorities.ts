/** Certificates of the authorities that vouch for https servers. */

import { readFile } from 'node:fs/promises';
import type { SecureContext } from 'node:tls';
import { NarswarmError } from '../../errors.ts';

/**
 * Reads the certificates once for all connections: parsing a system's bundle takes 10 ms. Loads `node:tls` only now, since it
 * parses Node's own certificates in a thread of its own.
 *
 * @param caFile PEM; certificates of NODE_EXTRA_CA_CERTS are added. Undefined: the certificates of Node
 * @returns undefined for Node's defaults
 * @throws NarswarmError HTTP_FAILED, naming the file, if it cannot be read or has no certificates
 */
export async function loadAuthorities(caFile: string | undefined): Promise<SecureContext | undefined> {
  if (caFile === undefined) return undefined;
  try {
    const ca = await readFile(caFile, 'utf8');
    if (!ca.includes('-----BEGIN ')) throw new Error('it has no certificate');
    const { createSecureContext, getCACertificates } = await import('node:tls');
    return createSecureContext({ ca: [ca, ...getCACertificates('extra')] });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new NarswarmError(
      'HTTP_FAILED',
      `the certificates of ${caFile} cannot be read (${reason}): correct ssl-cert-file in nix.conf, or NIX_SSL_CERT_FILE`,
      { cause, facts: { path: caFile } },
    );
  }
}
