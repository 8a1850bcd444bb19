import assert from 'node:assert/strict';
import { test } from 'node:test';
import { servicesOf } from '../../../src/discovery/gateway/upnp.ts';
import { elementsOf, textOf } from '../../../src/discovery/gateway/xml.ts';

test('elements are found by their local names', () => {
  assert.equal(textOf('<a><u:Name x="1"> one &amp; two </u:Name></a>', 'Name'), 'one & two');
  assert.equal(textOf('<NameOther>x</NameOther>', 'Name'), undefined);
  assert.equal(textOf('<Name/>', 'Name'), undefined);
  assert.deepEqual(
    elementsOf('<s>1</s><x/><n:s>2</n:s>', 's', 5).map((part) => part.charAt(0)),
    ['1', '2'],
  );
  assert.equal(elementsOf('<s>'.repeat(100), 's', 5).length, 5);
});

test('hostile text takes bounded time', () => {
  for (const text of [
    '<'.repeat(128 * 1024),
    '<a:'.repeat(40_000),
    `<Name ${' '.repeat(128 * 1024)}`,
    '<Name '.repeat(20_000),
  ]) {
    const before = process.cpuUsage().user;
    textOf(text, 'Name');
    elementsOf(text, 'Name', 64);
    assert.ok(process.cpuUsage().user - before < 1e6); // microseconds of processor time
  }
});

test('services of other hosts, other protocols and with passwords are left out', () => {
  const location = new URL('http://192.168.1.1:5000/desc.xml');
  const service = (control: string, type = 'WANIPConnection:1'): string =>
    `<service><serviceType>urn:schemas-upnp-org:service:${type}</serviceType><controlURL>${control}</controlURL></service>`;
  const found = (xml: string): string[] => servicesOf(xml, '192.168.1.1', location).map(({ control }) => control.href);
  assert.deepEqual(found(service('/ctl') + service('ctl2', 'WANPPPConnection:1')), [
    'http://192.168.1.1:5000/ctl',
    'http://192.168.1.1:5000/ctl2',
  ]);
  assert.deepEqual(found(`<URLBase>http://192.168.1.1:81</URLBase>${service('ctl')}`), ['http://192.168.1.1:81/ctl']);
  assert.deepEqual(found(`<URLBase>http://192.168.1.9:81</URLBase>${service('ctl')}`), ['http://192.168.1.1:5000/ctl']);
  for (const control of [
    'http://192.168.1.9/ctl',
    'http://127.0.0.1/ctl',
    '//192.168.1.9/ctl',
    'https://192.168.1.1/ctl',
    'http://user:pw@192.168.1.1/ctl',
    'file:///etc/passwd',
    'http://192.168.1.1.evil.example/',
  ])
    assert.deepEqual(found(service(control)), [], control);
  assert.deepEqual(found(service('/ctl', 'WANCommonInterfaceConfig:1')), []);
});
