/** One host of a push, with programs in the place of ssh. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { mock, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { PushHost, type HostOptions } from '../../src/push/host.ts';
import { formatMessage, MAX_LINE, type FromHost } from '../../src/push/messages.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { useNixFolder } from '../support/nix-folder.ts';

let dir = '';
const { fakeProgram } = useNixFolder((folder) => {
  dir = folder;
});

const OPTIONS: HostOptions = {
  name: 'root@far',
  sshOptions: [],
  mayAsk: true,
  program: { archive: async () => Buffer.alloc(0), id: 'id' },
  args: [],
  begin: { type: 'begin', group: '0'.repeat(40), key: '', trusts: false, port: 1 },
  listens: '127.0.0.1',
  onProgress: () => undefined,
  onWarning: () => undefined,
};

test('a host that writes a line without an end fails alone, on stdout and on stderr', async () => {
  for (const to of ['>&1', '>&2']) {
    fakeProgram('ssh', `yes | tr -d '\\n' ${to}; exec sleep 1000`);
    const host = new PushHost(OPTIONS);
    await assert.rejects(host.hello, { code: 'HOST_FAILED', message: /line without an end/ });
    await host.end();
  }
});

test('a host that lacks all paths may say so, however many they are, and nothing longer', async () => {
  const paths = Array.from({ length: 40_000 }, (_, at) => parseStorePath(`/nix/store/${'0'.repeat(32)}-${at}`));
  const answer = formatMessage({ type: 'lacking', paths });
  assert.ok(answer.length > MAX_LINE);
  writeFileSync(`${dir}/answer`, answer);
  fakeProgram('ssh', `head -n 1 >/dev/null; cat ${dir}/answer; head -c ${2 * MAX_LINE} /dev/zero | tr '\\0' '['; echo`);
  const host = new PushHost(OPTIONS);
  assert.deepEqual(await host.ask(paths), paths);
  await assert.rejects(host.done, { code: 'HOST_FAILED', message: /line without an end/ });
  await host.end();
});

test('words of a host stay in one line, and do not control the terminal', async () => {
  const forged = 'lost\nerror: \u001b[2Jall is lost';
  const said = 'lost error: \\u001b[2Jall is lost';
  const send = (message: FromHost): void => {
    writeFileSync(`${dir}/message`, formatMessage(message));
    fakeProgram('ssh', `cat ${dir}/message; exec sleep 1000`);
  };
  const warned = Promise.withResolvers<string>();
  send({ type: 'warning', text: forged });
  const warning = new PushHost({ ...OPTIONS, onWarning: warned.resolve });
  assert.equal(await warned.promise, said);
  await warning.end();
  const failures: readonly [FromHost, string][] = [
    [{ type: 'hello', protocol: 0, version: forged }, `its narswarm ${said} is another build`],
    [{ type: 'no-node', node: forged }, `(Node ${said})`],
  ];
  for (const [message, expected] of failures) {
    send(message);
    const host = new PushHost(OPTIONS);
    await assert.rejects(host.hello, (error: Error) => error.message.includes(expected));
    await host.end();
  }
  writeFileSync(`${dir}/message`, formatMessage({ type: 'failed', code: 'STORE_FULL', message: forged }));
  fakeProgram('ssh', `cat ${dir}/message`);
  const host = new PushHost(OPTIONS);
  await assert.rejects(host.hello, { code: 'HOST_FAILED', message: said });
  await host.end();
});

test('a host that warns without an end is heard twenty times, and gets the program once', async (t) => {
  fakeProgram(
    'ssh',
    `seq -f '{"type":"warning","text":"one"}
{"type":"warning","text":"warning %g"}
{"type":"progress","bytes":1,"totalBytes":2,"nars":1,"totalNars":2,"importing":false}
{"type":"send-program"}' 1000`,
  );
  t.mock.method(performance, 'now', () => 0); // no time passes
  const warnings: string[] = [];
  let [archives, reports] = [0, 0];
  const archive = async (): Promise<Buffer> => {
    archives++;
    return Buffer.from('program');
  };
  const program = { archive, id: 'id' };
  const onProgress = (): void => void reports++;
  const host = new PushHost({ ...OPTIONS, program, onProgress, onWarning: (text) => warnings.push(text) });
  await assert.rejects(host.done);
  assert.deepEqual([archives, reports, warnings.length], [1, 1, 21]);
  assert.deepEqual(warnings.slice(0, 2), ['one', 'warning 1']);
  assert.match(warnings.at(-1) ?? '', /more/);
});

test('what ssh says of a new host is no reason of a failure', async () => {
  fakeProgram('ssh', `echo "Warning: Permanently added 'far' to the list of known hosts." >&2; exit 3`);
  const host = new PushHost(OPTIONS);
  await assert.rejects(host.hello, (error: Error) => !error.message.includes('Permanently'));
  await host.end();
});

test('a host that cannot keep the program says why, and not that tar has failed', async (t) => {
  const full = `${dir}/full`;
  mkdirSync(full);
  assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', full]).status, 0);
  t.after(() => spawnSync('umount', [full]));
  writeFileSync(`${dir}/program`, randomBytes(100_000));
  const archive = spawnSync('tar', ['-C', dir, '-cz', 'program'], { maxBuffer: 1e6 }).stdout;
  fakeProgram('node', 'echo v24.0.0');
  fakeProgram(
    'ssh',
    `for command; do :; done; export XDG_CACHE_HOME=${full} PATH="\${0%/*}:/usr/bin:/bin"; eval "$command"`,
  );
  const host = new PushHost({ ...OPTIONS, program: { archive: async () => archive, id: 'id' } });
  await assert.rejects(host.hello, {
    code: 'HOST_FAILED',
    facts: { kind: 'not-kept' },
    message: /^it cannot keep a copy of this program \(tar: program: /,
  });
  await host.end();
});

test('a narswarm that ends before its first word has failed, and not ssh', async () => {
  const end = 'echo "error: c.toml:2: this is not valid TOML" >&2; exit 2';
  for (const [before, kind] of [
    ['', 'ssh'],
    [`echo '{"type":"shell"}';`, 'narswarm'],
  ] as const) {
    fakeProgram('ssh', before + end);
    const host = new PushHost(OPTIONS);
    const message = 'c.toml:2: this is not valid TOML';
    await assert.rejects(host.hello, { code: 'HOST_FAILED', message, facts: { kind, exitStatus: 2 } });
    await host.end();
  }
});

test('the end does not wait for a host that is not reached', async (t) => {
  fakeProgram('ssh', `touch ${dir}/started; exec sleep 1000`);
  const host = new PushHost(OPTIONS);
  while (!existsSync(`${dir}/started`)) await setImmediate();
  mock.timers.enable({ apis: ['setTimeout'] }); // no time passes
  t.after(() => mock.timers.reset());
  await host.end();
  await assert.rejects(host.ready, { code: 'HOST_FAILED' });
});

test('a host whose shell does not answer is told of, once', async (t) => {
  fakeProgram('ssh', `touch ${dir}/silent; exec sleep 1000`);
  mock.timers.enable({ apis: ['setTimeout'] });
  t.after(() => mock.timers.reset());
  const warnings: string[] = [];
  const host = new PushHost({ ...OPTIONS, onWarning: (text) => warnings.push(text) });
  while (!existsSync(`${dir}/silent`)) await setImmediate();
  assert.deepEqual(warnings, []);
  mock.timers.tick(600_000);
  assert.match(warnings.join('\n'), /^it has not answered for 60 s, and the push waits for it: .*$/);
  await host.end();
});
