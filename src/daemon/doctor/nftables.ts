/** Reads the rules of nftables as `nft --json list ruleset` prints them (libnftables-json(5)): pure. */
import type { Firewall, FirewallChain, FirewallRule, Matches } from './firewall.ts';

type Json = Readonly<Record<string, unknown>>;

/** @throws SyntaxError if the text is not JSON */
export function parseNftables(text: string): Firewall {
  const { nftables } = Object(JSON.parse(text)) as { nftables?: unknown };
  const items = (Array.isArray(nftables) ? nftables : []).map((item) => Object(item) as Json);
  const chains = new Map<string, { policy: FirewallChain['policy']; rules: FirewallRule[] }>();
  const sets = new Map<string, unknown>();
  const input: string[] = [];
  for (const item of items) {
    const set = objectOf(item['set']);
    if (set !== undefined) sets.set(keyOf(set, String(set['name'])), { set: set['elem'] ?? [] });
    const chain = objectOf(item['chain']);
    if (chain === undefined || !isIp(chain)) continue;
    const name = keyOf(chain, String(chain['name']));
    const isInput = chain['hook'] === 'input' && chain['type'] === 'filter';
    if (isInput) input.push(name);
    chains.set(name, { policy: isInput ? (chain['policy'] === 'drop' ? 'drop' : 'accept') : undefined, rules: [] });
  }
  for (const item of items) {
    const rule = objectOf(item['rule']);
    if (rule === undefined) continue;
    chains.get(keyOf(rule, String(rule['chain'])))?.rules.push(ruleOf(rule, sets));
  }
  return { input, chains };
}

const isIp = ({ family }: Json): boolean => ['inet', 'ip', 'ip6'].includes(String(family));

function keyOf({ family, table }: Json, name: string): string {
  return `${String(family)} ${String(table)} ${name}`;
}

function ruleOf(rule: Json, sets: ReadonlyMap<string, unknown>): FirewallRule {
  const statements = (Array.isArray(rule['expr']) ? rule['expr'] : []).map((one) => Object(one) as Json);
  const matches: Matches[] = [];
  let action: FirewallRule['action'];
  for (const statement of statements) {
    const [[kind, value] = []] = Object.entries(statement);
    if (kind === 'match') matches.push(matchOf(Object(value) as Json, (name) => sets.get(keyOf(rule, name))));
    else if (kind === 'accept' || kind === 'drop' || kind === 'return') action = kind;
    else if (kind === 'reject' || kind === 'queue') action = 'drop';
    else if (kind === 'jump' || kind === 'goto') {
      const target = keyOf(rule, String((Object(value) as Json)['target']));
      action = kind === 'jump' ? { jump: target } : { goto: target };
    } else if (kind === 'vmap') action = ofNew(Object(value) as Json, rule) ?? action;
    else if (kind === undefined || !WITHOUT_EFFECT.has(kind)) matches.push(() => undefined);
  }
  return { matches: (packet) => all(matches.map((match) => match(packet))), action };
}

/** Returns the effect of a map of connection states, as NixOS has it, on a new connection. Undefined for other maps. */
function ofNew({ key, data }: Json, rule: Json): FirewallRule['action'] {
  if (objectOf(objectOf(key)?.['ct'])?.['key'] !== 'state') return undefined;
  const { set } = Object(data) as Json;
  const found = (Array.isArray(set) ? set : []).find((pair) => Array.isArray(pair) && pair[0] === 'new') as
    | readonly unknown[]
    | undefined;
  const [[kind, value] = []] = Object.entries(Object(found?.[1]) as Json);
  if (kind === 'accept' || kind === 'drop') return kind;
  const target = objectOf(value)?.['target'];
  if (typeof target !== 'string') return undefined;
  const chain = keyOf(rule, target);
  return kind === 'goto' ? { goto: chain } : { jump: chain };
}

const WITHOUT_EFFECT: ReadonlySet<string> = new Set(['counter', 'log', 'comment', 'notrack', 'mangle']);

function all(results: readonly (boolean | undefined)[]): boolean | undefined {
  if (results.includes(false)) return false;
  return results.includes(undefined) ? undefined : true;
}

function matchOf({ left, right, op }: Json, setOf: (name: string) => unknown): Matches {
  const { meta, payload, ct } = Object(left) as { meta?: unknown; payload?: unknown; ct?: unknown };
  const key = objectOf(meta)?.['key'];
  const field = objectOf(payload);
  const operand = typeof right === 'string' && right.startsWith('@') ? setOf(right.slice(1)) : right;
  const negate = (result: boolean | undefined): boolean | undefined =>
    result === undefined ? undefined : (op === '!=') !== result;
  const isOneOf = (actual: string | number): boolean | undefined => negate(contains(operand, actual));
  if (key === 'iifname' || key === 'iif') return (packet) => isOneOf(packet.interface);
  if (key === 'l4proto') return (packet) => isOneOf(packet.protocol);
  if (key === 'nfproto' || key === 'protocol') return () => undefined;
  if (objectOf(ct)?.['key'] === 'state') return () => isOneOf('new');
  if (field?.['field'] === 'dport')
    return (packet) => {
      const protocol = field['protocol'];
      if (protocol !== 'th' && protocol !== packet.protocol) return false;
      return isOneOf(packet.port);
    };
  if (typeof field?.['protocol'] === 'string' && field['protocol'].startsWith('icmp')) return () => false;
  return () => undefined;
}

/** Returns true if a value, range, set or list contains `actual`. Undefined if it is not understood. */
function contains(operand: unknown, actual: string | number): boolean | undefined {
  if (typeof operand === 'string') {
    if (operand.endsWith('*')) return String(actual).startsWith(operand.slice(0, -1));
    return operand === String(actual);
  }
  if (typeof operand === 'number') return operand === actual;
  if (Array.isArray(operand)) return any(operand.map((one) => contains(one, actual)));
  const { set, range, elem, prefix } = Object(operand) as Json;
  if (Array.isArray(set)) return any(set.map((one) => contains(one, actual)));
  if (elem !== undefined) return contains((Object(elem) as Json)['val'], actual);
  if (prefix !== undefined || !Array.isArray(range)) return undefined;
  const [from, until] = range as readonly unknown[];
  return typeof from === 'number' && typeof until === 'number' && typeof actual === 'number'
    ? actual >= from && actual <= until
    : undefined;
}

function any(results: readonly (boolean | undefined)[]): boolean | undefined {
  if (results.includes(true)) return true;
  return results.includes(undefined) ? undefined : false;
}

function objectOf(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}
