/** The schema of a config file: the keys of {@link KEYS} and tables of subscriptions, nothing else. */
import { isAbsolute } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import * as v from 'valibot';
import { NarswarmError } from '../errors.ts';
import { quote } from '../nix/quote.ts';
import { absoluteSource } from '../subscription/source/absolute-source.ts';
import { canBeReady, READY_NEEDS, SUBSCRIPTION_NAME, type Subscription } from '../subscription/subscription.ts';
import { CONFIG_KEYS, isConfigKey, KEYS, type ConfigKey, type Shape, type Written } from './keys.ts';
import { nearest } from './nearest.ts';
import { lineOf, outline } from './outline.ts';

/** A subscription and the place of its declaration. */
export interface DeclaredSubscription extends Subscription {
  /** `FILE:LINE` */
  readonly where: string;
}

/** A valid config file. */
export interface ConfigFile {
  /** Values as written, with the `FILE:LINE` of each key. */
  readonly values: ReadonlyMap<ConfigKey, { readonly written: Written; readonly where: string }>;
  /** In the order of the file. */
  readonly subscriptions: readonly DeclaredSubscription[];
}

type Path = readonly (string | number)[];

const SUBSCRIPTION_KEYS = [
  'source',
  'file',
  'import',
  'to',
  'profile',
  'switch-to',
  'sources',
  'ready',
  'publish',
] as const;

const EXPECTED: Readonly<Record<Shape, string>> = {
  text: 'Expected a text in quotes.',
  path: 'Expected a path in quotes.',
  number: 'Expected a number, or a text in quotes.',
  list: 'Expected a text in quotes, or a list of them.',
  flag: 'Expected true or false, without quotes.',
  schedule: 'Expected a text in quotes, or a list of them.',
};

const isTable = (input: unknown): boolean => typeof input === 'object' && input !== null && !Array.isArray(input);
const flag = v.optional(v.boolean(EXPECTED.flag), false);
const text = v.pipe(v.string(EXPECTED.text), v.nonEmpty('Expected a value, but it is empty.'));

const SubscriptionTable = v.pipe(
  v.custom(isTable, 'Expected a table: [subscriptions.NAME].'),
  v.strictObject({
    source: text,
    file: v.optional(text),
    import: flag,
    to: v.optional(text),
    profile: v.optional(text),
    'switch-to': v.optional(text),
    sources: flag,
    ready: flag,
    publish: flag,
  }),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const refuse = (key: 'source' | 'file' | 'to' | 'profile' | 'switch-to' | 'ready', message: string): void => {
      const { value: input } = dataset;
      addIssue({ message, path: [{ type: 'object', origin: 'value', input, key, value: input[key] }] });
    };
    if (dataset.value.to !== undefined && !dataset.value.import)
      refuse('to', 'Expected import = true beside it: it names a store to import into.');
    if (dataset.value.profile !== undefined && !dataset.value.import)
      refuse('profile', 'Expected import = true beside it: it gets the imported paths.');
    if (dataset.value.profile !== undefined && dataset.value.to?.startsWith('ssh') === true)
      refuse('profile', 'Expected a store on this machine in `to`: Nix sets profiles only where its store is.');
    for (const key of ['profile', 'switch-to'] as const)
      if (dataset.value[key]?.startsWith('/') === false) refuse(key, 'Expected an absolute path.');
    if (dataset.value.ready && !canBeReady(dataset.value))
      refuse('ready', `Expected import = true beside it, and no to: ${READY_NEEDS}.`);
    try {
      const { source, file } = dataset.value;
      const [here, there] = ['/here', '/there'].map((cwd) => absoluteSource(source, { file, cwd }));
      if (here?.source !== there?.source) refuse('source', 'Expected an absolute path: updates run in any folder.');
      if (here?.file !== there?.file) refuse('file', 'Expected an absolute path: updates run in any folder.');
    } catch (error) {
      refuse('source', error instanceof Error ? error.message : String(error));
    }
  }),
);

const Config = v.strictObject({
  ...(Object.fromEntries(CONFIG_KEYS.map((key) => [key, v.optional(schemaOf(key))])) as Record<
    ConfigKey,
    v.OptionalSchema<v.GenericSchema<unknown, Written>, undefined>
  >),
  subscriptions: v.optional(
    v.pipe(
      v.custom(isTable, 'Expected tables: [subscriptions.NAME].'),
      v.record(
        v.pipe(
          v.string(),
          v.regex(
            SUBSCRIPTION_NAME,
            'Expected a name of A-Z a-z 0-9 . _ -, at most 64 characters, that begins with a letter or digit.',
          ),
        ),
        SubscriptionTable,
      ),
    ),
    {},
  ),
});

/**
 * Reads the text of a config file.
 *
 * @param file its name in messages
 * @throws USAGE with file and line: for invalid TOML, an unknown key (with a similar known one), or a malformed value
 */
export function parseConfig(toml: string, file: string): ConfigFile {
  const places = outlineOf(toml, file);
  const result = v.safeParse(Config, places.table);
  const where = (path: Path): string => `${file}:${lineOf(places.outline, path)}`;
  if (!result.success) {
    const complaints = result.issues.map((issue) => {
      const path = (issue.path ?? []).map(({ key }) => key as string | number);
      return { line: lineOf(places.outline, path), message: `${where(path)}: ${complain(issue, path)}` };
    });
    const [first] = complaints.toSorted((a, b) => a.line - b.line);
    throw new NarswarmError('USAGE', first?.message ?? file, { facts: { file, line: first?.line } });
  }
  const { subscriptions, ...values } = result.output;
  return {
    values: new Map(
      Object.entries(values).flatMap(([key, written]) =>
        isConfigKey(key) && written !== undefined ? [[key, { written, where: where([key]) }] as const] : [],
      ),
    ),
    // Object.entries would list keys such as "24" first.
    subscriptions: Object.entries(subscriptions)
      .map(([name, table]) => ({ name, table, line: lineOf(places.outline, ['subscriptions', name]) }))
      .toSorted((one, other) => one.line - other.line)
      .map(({ name, table: { 'switch-to': switchTo, ...table }, line }) =>
        Object.assign(table, switchTo === undefined ? {} : { switchTo }, { name, where: `${file}:${line}` }),
      ),
  };
}

function outlineOf(toml: string, file: string): { table: unknown; outline: ReturnType<typeof outline> } {
  try {
    // Without this, the schema does not see a key named __proto__ or constructor.
    return { table: parse(toml, { unsafeKeyBehaviour: 'throw' }), outline: outline(toml) };
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const [first = ''] = cause.message.split('\n');
    const message = `${file}:${cause.line}: ${first.replace('Invalid TOML document', 'this is not valid TOML')}, at column ${cause.column}`;
    throw new NarswarmError('USAGE', message, { cause, facts: { file, line: cause.line } });
  }
}

function schemaOf(key: ConfigKey): v.GenericSchema<unknown, Written> {
  const { shape, parse: read } = KEYS[key];
  const checks = v.rawCheck<string>(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    try {
      if (shape === 'path' && !isAbsolute(dataset.value))
        throw new NarswarmError('USAGE', 'Expected an absolute path.');
      read(dataset.value);
    } catch (error) {
      addIssue({ message: error instanceof Error ? error.message : String(error) });
    }
  });
  const one = v.pipe(v.string(EXPECTED[shape]), checks);
  if (shape === 'flag') return v.boolean(EXPECTED.flag);
  if (shape === 'list')
    return v.lazy((input) =>
      Array.isArray(input)
        ? v.array(one)
        : v.pipe(
            one,
            v.transform((item) => [item]),
          ),
    );
  if (shape === 'schedule') {
    const joined = v.pipe(
      v.array(v.string(EXPECTED.schedule)),
      v.transform((items) => items.join(', ')),
      checks,
    );
    return v.lazy((input) => (Array.isArray(input) ? joined : one));
  }
  if (shape === 'number')
    return v.lazy((input) => (typeof input === 'number' ? v.pipe(v.number(), v.transform(String), checks) : one));
  return one;
}

function complain(issue: v.BaseIssue<unknown>, path: Path): string {
  const key = path.findLast((part) => typeof part === 'string') ?? '';
  const inside = path[0] === 'subscriptions';
  const name = path.length > 2 && inside ? `${key} of the subscription ${String(path[1])}` : key;
  if (issue.type === 'strict_object' && issue.expected === 'never') {
    if (inside && isConfigKey(key))
      return `there is no key ${quote(key)} in a subscription: it applies to the whole file; put it above the first [table]`;
    const known = inside ? SUBSCRIPTION_KEYS : [...CONFIG_KEYS, 'subscriptions'];
    const off = key.replace(/^no-/, '');
    if (off !== key && isConfigKey(off) && KEYS[off].shape === 'flag' && !inside)
      return `there is no key ${quote(key)}: write ${off} = false`;
    const meant = nearest(key, known);
    const help = inside ? `the keys are ${known.join(', ')}` : 'narswarm config lists all keys';
    return `there is no key ${quote(key)}${inside ? ' in a subscription' : ''}: ${meant === undefined ? help : `did you mean ${meant}?`}`;
  }
  if (issue.type === 'strict_object') return `the subscription ${String(path[1])} has no ${key}: add ${key} = "…"`;
  return `${name}: ${issue.message}`;
}
