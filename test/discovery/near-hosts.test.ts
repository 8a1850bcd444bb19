import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { LocalNetworks } from '../../src/discovery/local-networks.ts';
import { NearHosts } from '../../src/discovery/near-hosts.ts';
import { asListed } from '../support/made-networks.ts';

suite('near hosts', () => {
  const networks = new LocalNetworks(() => ({ made0: [asListed('192.168.7.20/24'), asListed('fd00::20/64')] }));

  test('addresses are recognised at once, in the form of URLs', () => {
    const near = new NearHosts(networks, () => assert.fail('an address was looked up'));
    for (const host of ['192.168.7.9', '127.0.0.1', '[fd00::9]', '[::1]', 'fe80::1%made0', ''])
      assert.equal(near.includes(host), true, host);
    for (const host of ['192.168.8.9', '[2001:db8::1]', '203.0.113.1']) assert.equal(near.includes(host), false, host);
  });

  test('a name is far until the system has resolved it, once', async () => {
    const asked: string[] = [];
    const answers: Readonly<Record<string, readonly string[]>> = {
      cache: ['192.168.7.9', 'fd00::9'],
      'cache.example.org': ['203.0.113.1'],
      mixed: ['192.168.7.9', '203.0.113.1'],
    };
    const near = new NearHosts(networks, (name) => {
      asked.push(name);
      const found = answers[name];
      return found === undefined ? Promise.reject(new Error('no such name')) : Promise.resolve(found);
    });
    const names = [...Object.keys(answers), 'nowhere'];
    for (const name of names) assert.equal(near.includes(name), false, name);
    await new Promise(setImmediate);
    assert.deepEqual(
      names.map((name) => near.includes(name)),
      [true, false, false, false],
    );
    assert.deepEqual(asked, names);
  });
});
