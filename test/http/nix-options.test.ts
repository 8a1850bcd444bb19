import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { HttpClient } from '../../src/http/client.ts';
import { optionsOfNix } from '../../src/http/nix-options.ts';
import { parseNixConfig } from '../../src/nix/programs/nix-config.ts';
import { type Certificate, makeCertificate } from '../support/certificate.ts';
import { readPort } from '../support/http-cache.ts';

describe("options of Nix's configuration", () => {
  it('take the certificates from ssl-cert-file, the variables in their order, or the system', () => {
    const both = { NIX_SSL_CERT_FILE: '/nix.pem', SSL_CERT_FILE: '/ssl.pem' };
    const set = parseNixConfig('ssl-cert-file = /conf.pem\n');
    const unset = parseNixConfig('');
    assert.equal(optionsOfNix(set, both).caFile, '/conf.pem');
    assert.equal(optionsOfNix(unset, both).caFile, '/nix.pem');
    assert.equal(optionsOfNix(unset, { SSL_CERT_FILE: '/ssl.pem', NIX_SSL_CERT_FILE: '' }).caFile, '/ssl.pem');
    assert.equal(optionsOfNix(undefined, { SSL_CERT_FILE: '/ssl.pem' }).caFile, '/ssl.pem');
    assert.doesNotMatch(optionsOfNix(unset, {}).caFile ?? '', /ssl\.pem/);
  });

  it('take the netrc file of nix.conf, or the default of Nix', () => {
    assert.equal(optionsOfNix(parseNixConfig('netrc-file = /a b\n'), {}).netrcFile, '/a b');
    assert.equal(optionsOfNix(undefined, {}).netrcFile, '/etc/nix/netrc');
    assert.equal(optionsOfNix(undefined, { NIX_CONF_DIR: '/conf' }).netrcFile, '/conf/netrc');
  });

  it('take the netrc file that systemd gives a service as a credential', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'narswarm-credentials-'));
    t.after(() => rm(folder, { recursive: true }));
    const config = parseNixConfig('netrc-file = /etc/nix/netrc\n');
    const options = (): unknown => optionsOfNix(config, { CREDENTIALS_DIRECTORY: folder }).netrcFile;
    assert.equal(options(), '/etc/nix/netrc');
    await writeFile(join(folder, 'netrc'), '');
    assert.equal(options(), join(folder, 'netrc'));
  });

  it('take timeouts and attempts if Nix sets a limit', () => {
    const config = parseNixConfig('connect-timeout = 7\nstalled-download-timeout = 9\ndownload-attempts = 3\n');
    const { connectTimeoutMs, stallTimeoutMs, retries } = optionsOfNix(config, {});
    assert.deepEqual([connectTimeoutMs, stallTimeoutMs, retries], [7_000, 9_000, 2]);
    const none = optionsOfNix(parseNixConfig('connect-timeout = 0\ndownload-attempts = 0\n'), {});
    assert.deepEqual([none.connectTimeoutMs, none.retries], [undefined, undefined]);
  });
});

describe('certificates', { timeout: 180_000 }, () => {
  let certificate: Certificate;
  let server: Server;
  let url = '';
  before(async () => {
    certificate = await makeCertificate();
    server = createServer(certificate, (_, response) => response.end('x')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `https://127.0.0.1:${readPort(server)}`;
  });
  after(async () => {
    server.closeAllConnections();
    server.close();
    await certificate[Symbol.asyncDispose]();
  });

  it('of an own authority are trusted if its file is named', async () => {
    await using client = new HttpClient({ caFile: certificate.caFile, retries: 0 });
    assert.equal(Buffer.from((await client.getBytes(url, { maxBytes: 9 })) ?? []).toString(), 'x');
  });

  it('of an unknown authority are refused at once, with the way out', async () => {
    await using client = new HttpClient();
    await assert.rejects(client.getBytes(url, { maxBytes: 9 }), {
      code: 'HTTP_FAILED',
      message: /after 1 attempt: its certificate is not trusted here \([^;)]*\): .*ssl-cert-file/,
    });
  });

  it('for another name are refused at once, with the way out', async () => {
    await using client = new HttpClient({ caFile: certificate.caFile });
    await assert.rejects(client.getBytes(url.replace('127.0.0.1', 'localhost'), { maxBytes: 9 }), {
      code: 'HTTP_FAILED',
      message: /after 1 attempt: its certificate is for another name \([^\n]*localhost[^\n]*\): correct the address$/,
    });
  });

  it('that cannot be read are reported in one sentence, for https only', async () => {
    for (const file of [join(certificate.folder, 'none'), join(certificate.folder, 'ext')]) {
      await using client = new HttpClient({ caFile: file, retries: 0 });
      await assert.rejects(client.getBytes(url, { maxBytes: 9 }), {
        code: 'HTTP_FAILED',
        message: /certificates of .* cannot be read .*NIX_SSL_CERT_FILE/,
      });
      await assert.rejects(client.getBytes('http://127.0.0.1:9/', { maxBytes: 9 }), { message: /ECONNREFUSED/ });
    }
  });
});
