/** Decides whether a firewall lets packets from neighbours in, as far as its rules can be read: pure. */

/** The first packet of a connection to this machine, from a neighbour. */
export interface IncomingPacket {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  readonly interface: string;
}

/** Returns true or false. Undefined if the rule has a condition that is not understood. */
export type Matches = (packet: IncomingPacket) => boolean | undefined;

export interface FirewallRule {
  readonly matches: Matches;
  /** The effect on a packet that matches: a verdict, or a chain to go through. Undefined: the next rule decides. */
  readonly action: 'accept' | 'drop' | 'return' | { readonly jump: string } | { readonly goto: string } | undefined;
}

export interface FirewallChain {
  /** The verdict on a packet that no rule decides. Undefined for a chain that others jump to. */
  readonly policy: 'accept' | 'drop' | undefined;
  readonly rules: readonly FirewallRule[];
}

/**
 * The chains of the kernel's hook for incoming packets, each of which may drop a packet, and the chains they jump to.
 */
export interface Firewall {
  readonly input: readonly string[];
  readonly chains: ReadonlyMap<string, FirewallChain>;
}

/** `unknown`: a rule that is not understood may decide. */
export type Passage = 'open' | 'closed' | 'unknown';

/** The program that makes the rules, and would remove a rule that somebody else has added. */
export type FirewallManager = 'nixos' | 'ufw' | 'firewalld';

/** Tells whether a firewall lets a packet in. */
export function passageOf(firewall: Firewall, packet: IncomingPacket): Passage {
  const verdicts = new Set(verdictsOf(firewall, packet).map(({ verdict }) => verdict));
  if (verdicts.has('drop')) return 'closed';
  return verdicts.has('unknown') ? 'unknown' : 'open';
}

/** Returns the chains of the hook that drop a packet or may drop it. A rule before all others in each of them lets it in. */
export function barriersOf(firewall: Firewall, packet: IncomingPacket): string[] {
  return verdictsOf(firewall, packet).flatMap(({ name, verdict }) => (verdict === 'accept' ? [] : [name]));
}

/** Returns the program that manages the firewall, which is known by the names of its chains. */
export function managerOf({ chains }: Firewall): FirewallManager | undefined {
  for (const name of chains.keys()) {
    if (/\bnixos-fw\b/.test(name)) return 'nixos';
    if (/\bufw-before-input$/.test(name)) return 'ufw';
    if (/^inet firewalld |^INPUT_ZONES$/.test(name)) return 'firewalld';
  }
  return undefined;
}

function verdictsOf(
  { input, chains }: Firewall,
  packet: IncomingPacket,
): { readonly name: string; readonly verdict: Exclude<Verdict, 'continue'> }[] {
  return input.map((name) => {
    const verdict = through(name, chains, packet, 0);
    return { name, verdict: verdict === 'continue' ? (chains.get(name)?.policy ?? 'accept') : verdict };
  });
}

type Verdict = 'accept' | 'drop' | 'unknown' | 'continue';

const DEEPEST = 32;

function through(
  name: string,
  chains: ReadonlyMap<string, FirewallChain>,
  packet: IncomingPacket,
  depth: number,
): Verdict {
  let mayBeAccepted = false;
  for (const { matches, action } of chains.get(name)?.rules ?? []) {
    const does = matches(packet);
    if (does === false || action === undefined) continue;
    const verdict = verdictOf(action, chains, packet, depth);
    if (does === undefined) {
      // A rule that is not understood, such as a rate limit, may let the packet in. The next rules judge the rest.
      if (verdict !== 'drop' && verdict !== 'continue') mayBeAccepted = true;
      continue;
    }
    if (verdict === 'return') return 'continue';
    if (verdict === 'drop' && mayBeAccepted) return 'unknown';
    if (verdict !== 'continue') return verdict;
    if (typeof action === 'object' && 'goto' in action) return 'continue';
  }
  return mayBeAccepted ? 'unknown' : 'continue';
}

function verdictOf(
  action: NonNullable<FirewallRule['action']>,
  chains: ReadonlyMap<string, FirewallChain>,
  packet: IncomingPacket,
  depth: number,
): Verdict | 'return' {
  if (typeof action === 'string') return action;
  if (depth > DEEPEST) return 'unknown';
  return through('jump' in action ? action.jump : action.goto, chains, packet, depth + 1);
}
