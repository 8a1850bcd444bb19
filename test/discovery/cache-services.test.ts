import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { decode, encode, type Answer } from 'dns-packet';
import * as fc from 'fast-check';
import { CACHE_SERVICE, CacheServices, formatQuery } from '../../src/discovery/cache-services.ts';

const NAS = '192.168.1.2';
const INSTANCE = `nix cache.of nas.${CACHE_SERVICE}`;
const PTR: Answer = { name: CACHE_SERVICE, type: 'PTR', ttl: 120, data: INSTANCE };
const SRV: Answer = { name: INSTANCE, type: 'SRV', ttl: 120, data: { target: 'NAS.local', port: 5000 } };
const ADDRESSES: Answer[] = [
  { name: 'nas.local', type: 'AAAA', ttl: 120, data: 'fd00::2' },
  { name: 'nas.local', type: 'A', ttl: 120, data: '192.168.1.2' },
];

const response = (answers: Answer[], additionals: Answer[] = []): Buffer =>
  encode({ type: 'response', answers, additionals });

suite('caches that announce themselves by mDNS', () => {
  test('the question has the bytes that responders understand', () => {
    const name = '\u0011_nix_binary_cache\u0004_tcp\u0005local\0';
    const question = Buffer.concat([Buffer.from(name, 'latin1'), Buffer.from([0, 12, 0, 1])]);
    assert.deepEqual(formatQuery(), Buffer.concat([Buffer.from([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), question]));
  });

  test('a packet with a service, its host and its addresses names a cache, IPv4 first', () => {
    const services = new CacheServices();
    services.take(response([PTR], [SRV, ...ADDRESSES]), 0, NAS);
    const endpoints = ['192.168.1.2', 'fd00::2'].map((host) => ({ host, port: 5000 }));
    assert.deepEqual(services.list(0), [{ instance: 'nix cache.of nas', endpoints }]);
    assert.deepEqual(services.missing(0), []);
  });

  test('records that a packet leaves out are requested one after another', () => {
    const services = new CacheServices();
    services.take(response([PTR]), 0, NAS);
    assert.deepEqual(services.missing(0), [{ name: INSTANCE, type: 'SRV' }]);
    services.take(response([SRV]), 0, NAS);
    assert.deepEqual(
      services.missing(0),
      ['A', 'AAAA'].map((type) => ({ name: 'nas.local', type })),
    );
    assert.deepEqual(services.list(0), []);
    services.take(response(ADDRESSES), 0, NAS);
    assert.equal(services.list(0).length, 1);
  });

  test('records expire after their time, and at once if they are withdrawn', () => {
    const services = new CacheServices();
    services.take(response([PTR, SRV, ...ADDRESSES]), 0, NAS);
    assert.equal(services.list(119_999).length, 1);
    assert.equal(services.list(120_000).length, 0);
    services.take(response([PTR, SRV, ...ADDRESSES]), 200_000, NAS);
    services.take(response([{ ...PTR, ttl: 0 }]), 200_001, NAS);
    assert.equal(services.list(200_001).length, 0);
  });

  test('ignores questions, other services, absurd ports and absurd names', () => {
    const services = new CacheServices();
    services.take(encode({ type: 'query', questions: [], answers: [PTR, SRV, ...ADDRESSES] }), 0, NAS);
    services.take(response([{ ...PTR, name: '_http._tcp.local' }, SRV, ...ADDRESSES]), 0, NAS);
    services.take(response([{ ...PTR, data: 'x._http._tcp.local' }]), 0, NAS);
    assert.deepEqual(services.list(0), []);
    const absurd = new CacheServices();
    absurd.take(response([PTR, { ...SRV, data: { target: 'nas.local', port: 0 } }, ...ADDRESSES]), 0, NAS);
    assert.deepEqual(absurd.list(0), []);
  });

  test('a host that names thousands of services takes bounded memory', () => {
    const services = new CacheServices();
    for (let index = 0; index < 1_000; index++) {
      const name = `n${index}.${CACHE_SERVICE}`;
      services.take(
        response([
          { ...PTR, data: name },
          { ...SRV, name },
          { name: 'nas.local', type: 'A', ttl: 9, data: `10.0.${index >> 8}.${index & 255}` },
        ]),
        0,
        NAS,
      );
    }
    const list = services.list(0);
    assert.equal(list.length, 64);
    assert.equal(list[0]?.endpoints.length, 64);
  });

  test('a host that names thousands of services takes no room from the cache of another', () => {
    const services = new CacheServices();
    const flood = (): void => {
      for (let index = 0; index < 1_000; index++) {
        const name = `n${index}.${CACHE_SERVICE}`;
        const server: Answer = { ...SRV, name, data: { target: `h${index % 64}.local`, port: 1 } };
        const address: Answer = { name: `h${index % 64}.local`, type: 'A', ttl: 4500, data: '192.168.1.66' };
        services.take(response([{ ...PTR, data: name, ttl: 4500 }, server, address]), 0, '192.168.1.66');
      }
    };
    const isFound = (): boolean => services.list(0).some(({ endpoints }) => endpoints[0]?.host === NAS);
    flood();
    services.take(response([PTR], [SRV, ...ADDRESSES]), 0, NAS);
    assert.ok(isFound());
    flood();
    assert.ok(isFound());
    assert.equal(services.list(0).length, 64);
  });

  test('a packet that is longer than mDNS allows is not read, since its names may take long', () => {
    const base = response([PTR], [SRV, ...ADDRESSES]);
    const services = new CacheServices();
    services.take(Buffer.concat([base, Buffer.alloc(9001 - base.length)]), 0, NAS);
    assert.deepEqual(services.list(0), []);
    services.take(Buffer.concat([base, Buffer.alloc(9000 - base.length)]), 0, NAS);
    assert.equal(services.list(0).length, 1);
  });

  test('a cache is found among any number of other hosts, with its records in any order', () => {
    const services = new CacheServices();
    for (let index = 0; index < 100; index++)
      services.take(response([{ name: `phone-${index}.local`, type: 'A', ttl: 120, data: `10.0.0.${index}` }]), 0, NAS);
    services.take(response([...ADDRESSES, SRV, PTR]), 0, NAS);
    assert.equal(services.list(0)[0]?.endpoints.length, 2);
    const later = 3_600_000;
    for (let index = 0; index < 64; index++) {
      const name = `n${index}.${CACHE_SERVICE}`;
      services.take(
        response([
          { ...PTR, data: name },
          { ...SRV, name, data: { target: `h${index}.local`, port: 1 } },
        ]),
        0,
        NAS,
      );
      services.take(response([{ name: `h${index}.local`, type: 'A', ttl: 9, data: '10.0.0.9' }]), 0, NAS);
    }
    services.take(response([PTR], [SRV, ...ADDRESSES]), later, NAS);
    assert.equal(services.list(later).length, 1, 'those that have ended make room');
  });

  test('garbage never throws', () => {
    const base = response([PTR], [SRV, ...ADDRESSES]);
    const anyChange = fc.array(fc.tuple(fc.nat({ max: base.length - 1 }), fc.nat({ max: 255 })), { maxLength: 8 });
    fc.assert(
      fc.property(anyChange, fc.nat({ max: base.length }), (changes, length) => {
        const packet = Buffer.from(base);
        for (const [at, byte] of changes) packet[at] = byte;
        const services = new CacheServices();
        services.take(packet.subarray(0, length), 0, NAS);
        for (const { endpoints } of services.list(0)) for (const { port } of endpoints) assert.ok(port > 0);
        services.missing(0);
      }),
    );
    fc.assert(fc.property(fc.uint8Array(), (bytes) => new CacheServices().take(Buffer.from(bytes), 0, NAS)));
    assert.equal(decode(base).type, 'response');
  });
});
