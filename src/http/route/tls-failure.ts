/** Explains why there is no TLS with a server, with the way out. Pure. */

/** The facts in errors of OpenSSL and of the check of certificates. */
export interface TlsError extends Error {
  readonly code?: string;
  /** OpenSSL's words, or those of the check of a certificate's names. */
  readonly reason?: string;
}

/** Returns the explanation, and whether a later attempt can succeed. Undefined for errors of another kind. */
export function explainTls(error: TlsError): { reason: string; mayPass: boolean } | undefined {
  const { code = '', message } = error;
  const passing = passingReason(error);
  if (passing !== undefined) return { reason: passing, mayPass: true };
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return {
      reason: `its certificate is for another name (${error.reason ?? message}): correct the address`,
      mayPass: false,
    };
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return { reason: `its certificate is not valid today (${message}): check this machine's clock`, mayPass: false };
  if (code.includes('CERT') || CERTIFICATES.has(code))
    return {
      reason: `its certificate is not trusted here (${code}): name an authority of your own with ssl-cert-file in nix.conf or NIX_SSL_CERT_FILE`,
      mayPass: false,
    };
  return undefined;
}

/** Codes of OpenSSL for an invalid certificate chain, besides those with CERT in them. */
const CERTIFICATES = new Set(['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'INVALID_CA', 'HOSTNAME_MISMATCH']);

/** Codes of OpenSSL for a server that does not speak TLS. */
const NOT_TLS = new Set(['ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG', 'EPROTO']);

function passingReason({ code = '', reason = '' }: TlsError): string | undefined {
  if (NOT_TLS.has(code)) return `it does not speak TLS (${reason || code}): its address may begin with http://`;
  return code.startsWith('ERR_SSL_') ? `TLS failed (${reason || code})` : undefined;
}
