/** Turns Nix's download settings into options of the client (Nix: src/libstore/{filetransfer,globals}.cc). */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { NixConfig } from '../nix/programs/nix-config.ts';
import type { HttpClientOptions } from './options.ts';

/** Usual files of certificate authorities: the first two are Nix's own list, the others curl's, by distribution. */
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/nix/var/nix/profiles/default/etc/ssl/certs/ca-bundle.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/**
 * @param config undefined if Nix is not installed: then its defaults apply
 * @param environment of the process
 */
export function optionsOfNix(
  config: NixConfig | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): HttpClientOptions {
  const attempts = config?.downloadAttempts ?? 0;
  return {
    netrcFile: netrcFile(config?.netrcFile, environment),
    caFile: authoritiesFile(config?.caFile, environment),
    connectTimeoutMs: milliseconds(config?.connectTimeout),
    stallTimeoutMs: milliseconds(config?.stalledDownloadTimeout),
    retries: attempts > 0 ? attempts - 1 : undefined,
  };
}

/**
 * Returns the credential `netrc` of a service (systemd.exec(5), LoadCredential), since root's file cannot be read there,
 * otherwise `netrc-file`.
 */
function netrcFile(
  configured: string | undefined,
  { CREDENTIALS_DIRECTORY, NIX_CONF_DIR }: Readonly<Record<string, string | undefined>>,
): string {
  const credential = CREDENTIALS_DIRECTORY ? join(CREDENTIALS_DIRECTORY, 'netrc') : undefined;
  if (credential !== undefined && existsSync(credential)) return credential;
  return configured ?? join(NIX_CONF_DIR || '/etc/nix', 'netrc');
}

/**
 * Returns `ssl-cert-file` if Nix knows it, otherwise the file of the variables in Nix's order, otherwise the system's
 * bundle.
 */
function authoritiesFile(
  configured: string | undefined,
  { NIX_SSL_CERT_FILE, SSL_CERT_FILE }: Readonly<Record<string, string | undefined>>,
): string | undefined {
  return configured || NIX_SSL_CERT_FILE || SSL_CERT_FILE || BUNDLES.find((file) => existsSync(file));
}

/** Converts seconds. Nix's 0 means no limit: then the client's own limit applies, so that nothing hangs. */
function milliseconds(seconds: number | undefined): number | undefined {
  return seconds === undefined || seconds === 0 ? undefined : seconds * 1_000;
}
