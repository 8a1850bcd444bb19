import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withPlaces, type Place } from '../../../src/cli/options/places.ts';

const at = (places: Readonly<Record<string, Place>>) => (option: string) => places[option];

test('a message says from which file an option has its value', () => {
  const text = '/nix/store/x: 1 of 2 publishers built it as y, and --require asks for 2';
  const place = { where: '/etc/narswarm/config.toml:3' };
  assert.equal(
    withPlaces(text, at({ '--require': place })),
    `${text} (--require comes from /etc/narswarm/config.toml:3)`,
  );
  const setting = 'services.narswarm.settings.require';
  assert.equal(
    withPlaces(text, at({ '--require': { ...place, setting } })),
    `${text} (--require comes from ${setting} (/etc/narswarm/config.toml:3))`,
  );
  assert.equal(withPlaces(text, at({})), text, 'a flag needs no place');
});

test('a place that the message has is not repeated, and each option is named once', () => {
  const places = at({ '--scope': { where: '/c:1' }, '--peer': { where: 'NARSWARM_PEER' } });
  const text = '--scope off (/c:1) talks to no peers and --peer names one: give another --scope, or no --peer';
  assert.equal(withPlaces(text, places), `${text} (--peer comes from NARSWARM_PEER)`);
});

test('options of a command line that is to be run are not those of this run', () => {
  const text = 'nothing is published: run narswarm subscribe mirror --publish, then narswarm update';
  assert.equal(withPlaces(text, at({ '--publish': { where: '/c:1' } })), text);
});
