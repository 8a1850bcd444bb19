/** A certificate for 127.0.0.1, and the authority that has signed it. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Certificate extends AsyncDisposable {
  readonly folder: string;
  readonly cert: Buffer;
  readonly key: Buffer;
  /** The certificate of the authority, for `caFile`. */
  readonly caFile: string;
}

export async function makeCertificate(): Promise<Certificate> {
  const folder = await mkdtemp(join(tmpdir(), 'narswarm-ca-'));
  const openssl = (text: string): unknown => execFileSync('openssl', text.split(' '), { cwd: folder, stdio: 'ignore' });
  const key = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';
  await writeFile(join(folder, 'ext'), 'subjectAltName=IP:127.0.0.1\n');
  openssl(`req -x509 ${key} -keyout ca.key -out ca.pem -days 2 -subj /CN=Lab`);
  openssl(`req ${key} -keyout server.key -out server.csr -subj /CN=server`);
  openssl('x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem');
  return {
    folder,
    cert: await readFile(join(folder, 'server.pem')),
    key: await readFile(join(folder, 'server.key')),
    caFile: join(folder, 'ca.pem'),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}
