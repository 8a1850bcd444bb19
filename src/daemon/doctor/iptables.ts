/** Reads the rules of iptables as `iptables-save` prints them (iptables(8)), such as those of NixOS and ufw: pure. */
import type { Firewall, FirewallChain, FirewallRule, Matches } from './firewall.ts';

/** Parses the table `filter`. Ignores the other tables: they drop nothing. */
export function parseIptables(text: string): Firewall {
  const chains = new Map<string, { policy: FirewallChain['policy']; rules: FirewallRule[] }>();
  let isFilter = false;
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) isFilter = line === '*filter';
    if (!isFilter) continue;
    const [, name, policy] = /^:(\S+) (\S+)/.exec(line) ?? [];
    if (name !== undefined)
      chains.set(name, { policy: policy === 'DROP' ? 'drop' : policy === 'ACCEPT' ? 'accept' : undefined, rules: [] });
    const [, chain, rest] = /^-A (\S+)(.*)$/.exec(line) ?? [];
    if (chain !== undefined) chains.get(chain)?.rules.push(ruleOf(wordsOf(rest ?? '')));
  }
  return { input: chains.has('INPUT') ? ['INPUT'] : [], chains };
}

/** Options that do not decide which packets match, with the number of words that follow them. */
const REMARKS: Readonly<Record<string, number>> = {
  '-m': 1,
  '--match': 1,
  '--comment': 1,
  '--log-prefix': 1,
  '--log-level': 1,
  '--reject-with': 1,
};
/** Targets after which the next rule decides. */
const WITHOUT_VERDICT: ReadonlySet<string> = new Set(['LOG', 'NFLOG', 'MARK', 'CONNMARK', 'CT', 'TRACE']);

function ruleOf(words: readonly string[]): FirewallRule {
  const matches: Matches[] = [];
  let action: FirewallRule['action'];
  let isNegated = false;
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    const value = words[at + 1] ?? '';
    if (word === '!') {
      isNegated = true;
      continue;
    }
    if (word === '-j' || word === '-g') action = targetOf(word, value);
    else if (!(word in REMARKS)) matches.push(negated(matchOf(word, value), isNegated));
    if (word === '--tcp-flags') at += 2;
    else if (!value.startsWith('-')) at += REMARKS[word] ?? 1; // a flag takes no value
    isNegated = false;
  }
  return {
    action,
    matches: (packet) => {
      const results = new Set(matches.map((match) => match(packet)));
      return results.has(false) ? false : results.has(undefined) ? undefined : true;
    },
  };
}

function targetOf(word: string, target: string): FirewallRule['action'] {
  if (target === 'ACCEPT') return 'accept';
  if (target === 'DROP' || target === 'REJECT') return 'drop';
  if (target === 'RETURN') return 'return';
  if (WITHOUT_VERDICT.has(target)) return undefined;
  return word === '-j' ? { jump: target } : { goto: target };
}

function matchOf(word: string, value: string): Matches {
  switch (word) {
    case '-p':
      return ({ protocol }) => value === 'all' || value === protocol;
    case '-i':
      return (packet) =>
        value.endsWith('+') ? packet.interface.startsWith(value.slice(0, -1)) : packet.interface === value;
    case '--dport':
    case '--dports': {
      const ranges = value.split(',').map((part) => part.split(':').map(Number));
      return ({ port }) => ranges.some(([from = 0, until = from]) => port >= from && port <= until);
    }
    case '--ctstate':
    case '--state':
      return () => value.split(',').includes('NEW');
    case '--icmp-type':
    case '--icmpv6-type':
      return () => false;
    case '--dst-type':
      return () => (value === 'LOCAL' ? true : undefined);
    default:
      return () => undefined;
  }
}

function negated(matches: Matches, isNegated: boolean): Matches {
  if (!isNegated) return matches;
  return (packet) => {
    const result = matches(packet);
    return result === undefined ? undefined : !result;
  };
}

/** Splits a text at white space. Quoted words may contain white space. */
function wordsOf(text: string): string[] {
  return Array.from(text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g), ([, quoted, plain]) => quoted ?? plain ?? '');
}
