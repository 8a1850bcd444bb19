import assert from 'node:assert/strict';
import { test } from 'node:test';
import { insteadOfSubscription, orSubscription } from '../../../src/cli/words/unknown-name.ts';
import type { Config } from '../../../src/config/load.ts';
import { NarswarmError } from '../../../src/errors.ts';

const configOf = (...names: string[]): Config =>
  ({ path: '/etc/c.toml', exists: true, values: new Map(), subscriptions: names.map((name) => ({ name })) }) as never;
const unknown = (root: string, named: readonly string[] = []): NarswarmError =>
  new NarswarmError('ROOT_UNKNOWN', 'as it was', { facts: { root, named } });
const told = (error: unknown): NarswarmError => {
  assert.ok(error instanceof NarswarmError);
  return error;
};

test('a misspelt subscription is answered with the nearest name and the list', () => {
  const { code, message, facts } = told(orSubscription(unknown('deskto'), configOf('desktop', 'lab')));
  assert.equal(code, 'ROOT_UNKNOWN');
  assert.match(message, /^there is no subscription deskto in \/etc\/c\.toml \(it has desktop, lab\), /);
  assert.match(message, /: did you mean desktop\?$/);
  assert.deepEqual(facts, { root: 'deskto', named: [], subscriptions: ['desktop', 'lab'], meant: 'desktop' });
});

test('a misspelt subscription is named, too, if the hash map that may have such a root cannot be read', () => {
  const failure = new NarswarmError('INDEX_UNREACHABLE', 'no answer', { facts: { root: 'deskto' } });
  const { code, message } = told(orSubscription(failure, configOf('desktop')));
  assert.equal(code, 'INDEX_UNREACHABLE');
  assert.equal(message, 'there is no subscription deskto in /etc/c.toml: did you mean desktop? Otherwise: no answer');
  assert.equal(orSubscription(failure, configOf('lab')), failure);
});

test('a root of a hash map may be the nearest, too', () => {
  const { message } = told(orSubscription(unknown('servr', ['server']), configOf('desktop')));
  assert.match(message, /neither a root of a hash map \(server\) nor a store path .*: did you mean server\?$/);
});

test('without a near name the forms are named, and a long list is not', () => {
  const many = Array.from({ length: 13 }, (_, index) => `machine${index}`);
  const { message } = told(orSubscription(unknown('xyz'), configOf(...many)));
  assert.match(message, /\(narswarm subscriptions lists its 13\).*: give one of these names, a path such as/);
  assert.match(
    told(orSubscription(unknown('xyz'), configOf())).message,
    /\(it has none; add one with narswarm subscribe\)/,
  );
});

test('fetch says what to do with a subscription; other failures stay', () => {
  const error = told(insteadOfSubscription(unknown('lab'), configOf('lab')));
  assert.equal(error.message, 'lab is a subscription: narswarm update lab fetches it');
  const near = told(insteadOfSubscription(unknown('desktp', ['desktop']), configOf('lab')));
  assert.equal(near.message, 'as it was: did you mean desktop?');
  const other = unknown('lib');
  assert.equal(insteadOfSubscription(other, configOf('lab')), other);
  const full = new NarswarmError('STORE_FULL', 'full');
  assert.equal(orSubscription(full, configOf('lab')), full);
});
