import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { suite, test } from 'node:test';
import { LocalNetworks } from '../../src/discovery/local-networks.ts';
import { ownHost } from '../../src/discovery/own-address.ts';
import { asListed } from '../support/made-networks.ts';

suite('the host that the URL of a mirror names', () => {
  const lo = [asListed('127.0.0.1/8'), asListed('::1/128')];
  const networks = (made: Record<string, readonly string[]>): LocalNetworks =>
    new LocalNetworks(() => ({
      lo,
      docker0: [asListed('172.17.0.1/16')],
      ...Object.fromEntries(Object.entries(made).map(([name, list]) => [name, list.map((one) => asListed(one, 2))])),
    }));
  const both = networks({ made0: ['fe80::20/64', 'fd00::20/64', '192.168.7.20/24'] });

  test('is the address of --listen', () => {
    assert.equal(ownHost('127.0.0.1', both), '127.0.0.1');
    assert.equal(ownHost('fd00::20', both), 'fd00::20');
  });

  for (const listen of [undefined, '0.0.0.0', '::', 'fe80::20%made0'])
    test(`is an address that others can reach, for ${listen ?? 'no address'}`, () =>
      assert.equal(ownHost(listen, both), '192.168.7.20'));

  test('is an IPv6 address if there is no other, and never a link-local one', () => {
    assert.equal(ownHost(undefined, networks({ made0: ['fe80::20/64', 'fd00::20/64'] })), 'fd00::20');
    assert.equal(ownHost(undefined, networks({ made0: ['fe80::20/64'] })), hostname());
    assert.equal(ownHost(undefined, networks({})), hostname());
  });
});
