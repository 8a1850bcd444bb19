/** Puts the findings of the doctor into words. */
import type { Finding, Findings } from '../../daemon/doctor/finding.ts';
import { formatEndpoint } from '../../discovery/endpoint.ts';
import { failureInWords, mappedSentence, wayOutOf } from '../port-mapping.ts';
import { formatCount, formatSize } from './values.ts';

/** A finding in one sentence, and the way out unless it is good. */
export interface Sentence {
  readonly text: string;
  readonly wayOut: string | undefined;
}

export function sentenceOf(finding: Finding): Sentence {
  switch (finding.check) {
    case 'versions': {
      const { narswarm, node, nix, oldestNix, isMissing } = finding.facts;
      const nixText = isMissing ? 'no Nix in PATH' : nix === undefined ? 'a Nix that does not start' : `Nix ${nix}`;
      return {
        text: `narswarm ${narswarm}, Node ${node}, ${nixText}`,
        wayOut: isMissing
          ? 'install Nix, or add it to PATH'
          : nix === undefined
            ? 'see nix-conf below'
            : `install Nix ${oldestNix} or newer`,
      };
    }
    case 'nix-conf':
      return ofNixConf(finding.facts);
    case 'keys':
      return ofKeys(finding.facts);
    case 'store':
      return ofStore(finding.facts);
    case 'roots':
      return ofRoots(finding.facts);
    case 'clock': {
      const [now, later, expired] = [finding.facts.now, finding.facts.later, finding.facts.expired].map(toTheSecond);
      if (expired !== undefined)
        return {
          text: `the clock shows ${now}, and a followed hash map expired at ${expired}`,
          wayOut: 'set the clock if it is ahead; otherwise the publisher must publish again',
        };
      if (later === undefined) return { text: `the clock shows ${now}`, wayOut: undefined };
      return {
        text: `the clock shows ${now}, and an update ran or a hash map was signed at ${later}`,
        wayOut: 'set the clock: while it is behind, new hash maps are refused and expired ones are accepted',
      };
    }
    case 'daemon': {
      const { pid, isAnotherMachine, publisherPid, port, scope } = finding.facts;
      const does = port === undefined || scope === undefined ? '' : `, port ${port}, scope ${scope}`;
      if (isAnotherMachine) return { text: 'a daemon of another machine serves this store', wayOut: undefined };
      if (pid !== undefined) return { text: `a daemon serves this store (process ${pid}${does})`, wayOut: undefined };
      if (publisherPid !== undefined)
        return { text: `narswarm publish serves this store (process ${publisherPid})`, wayOut: undefined };
      return {
        text: 'no daemon serves this store, so neighbours get its NARs only during a fetch or a publish',
        wayOut: 'start narswarm daemon, or install it with narswarm service',
      };
    }
    case 'port':
      return ofPort(finding.facts);
    case 'reach': {
      const { address, port, failure } = finding.facts;
      if (failure === undefined) return { text: `${address}:${port} answers`, wayOut: undefined };
      return {
        text: `${address}:${port} does not answer (${failure})`,
        wayOut:
          'the daemon listens on another address (--listen), or a firewall drops packets from this machine to itself',
      };
    }
    case 'firewall':
      return ofFirewall(finding.facts);
    case 'interfaces': {
      const { names } = finding.facts;
      return names.length === 0
        ? {
            text: 'no interface leads to neighbours',
            wayOut: 'connect to a network; interfaces of containers and loopback do not count',
          }
        : { text: `neighbours may be on ${names.join(', ')}`, wayOut: undefined };
    }
    case 'multicast': {
      const { interface: name, isHeard, others, failure } = finding.facts;
      if (isHeard && others > 0) {
        const hosts = others === 1 ? 'another host is' : `${others} other hosts are`;
        return { text: `multicast on ${name}: sent, and ${hosts} heard`, wayOut: undefined };
      }
      if (isHeard) {
        const why = 'no other host runs narswarm, or the network or their firewalls drop multicast';
        return { text: `multicast on ${name}: sent, but no other host is heard (${why})`, wayOut: undefined };
      }
      const why = failure === undefined ? 'is not heard' : `cannot be sent (${failure})`;
      return {
        text: `multicast on ${name} ${why}, so neighbours are not found`,
        wayOut: 'let UDP 6771 in, or name neighbours with --peer HOST:PORT',
      };
    }
    case 'router':
      return ofRouter(finding.facts);
    default:
      return ofDht(finding.facts);
  }
}

/** Leaves out the milliseconds of a time in ISO 8601. */
function toTheSecond(time: string | undefined): string | undefined {
  return time?.replace(/\.\d+Z$/, 'Z');
}

function ofRouter({ mapping, isAsked, isWanted }: Findings['router']): Sentence {
  if (!isAsked)
    return {
      text: 'no daemon answers, so nobody knows whether the router maps its ports',
      wayOut: 'start narswarm daemon with map-port, and run this as its user, or as root',
    };
  if (mapping === undefined && !isWanted)
    return { text: 'the daemon has no map-port, so it asks no router for anything', wayOut: undefined };
  if (mapping === undefined)
    return {
      text: 'the daemon was started without map-port, so no port is mapped',
      wayOut: 'start the daemon again with map-port',
    };
  const { failure } = mapping;
  if (failure !== null) return { text: failureInWords(failure, mapping), wayOut: wayOutOf(failure) };
  return { text: mappedSentence(mapping), wayOut: 'wait a minute, and run this again' };
}

function ofRoots({ name, paths, collected, rootless }: Findings['roots']): Sentence {
  const [gone] = collected;
  const [loose] = rootless;
  if (gone !== undefined)
    return { text: `${name}: Nix has collected ${gone}`, wayOut: `run narswarm update ${name} to import it again` };
  if (loose !== undefined)
    return { text: `${name}: no GC root keeps ${loose}`, wayOut: `run narswarm update ${name}, which makes one` };
  return { text: `${name}: GC roots keep its ${paths === 1 ? 'path' : `${paths} paths`}`, wayOut: undefined };
}

function ofDht({ isUsed, isNeeded, isAnnounced, nodes, seenAs, isBehindNat, isMapped }: Findings['dht']): Sentence {
  if (!isUsed) return { text: 'the DHT is not used', wayOut: undefined };
  const answered = nodes.filter(({ failure }) => failure === undefined).length;
  if (answered === 0) {
    const isNames = nodes.every(({ failure }) => failure === 'name');
    const why = nodes
      .map(({ node, failure }) => `${node} ${failure === 'name' ? 'is not found' : 'is silent'}`)
      .join(', ');
    const wayOut = isNames
      ? 'check the name servers of this machine, or name a node by its address: --dht-bootstrap HOST:PORT'
      : 'let UDP out to the internet and its answers in, or name a node that answers: --dht-bootstrap HOST:PORT';
    return {
      text: `the DHT does not answer (${why})`,
      wayOut: isNeeded ? `${wayOut}; or follow the HTTP mirror of the publisher, which needs no DHT` : wayOut,
    };
  }
  const seen = seenAs.map(formatEndpoint).join(' and ');
  const as = seen === '' ? '' : `, and sees this machine at ${seen}`;
  const nat = isBehindNat === true ? ', behind a NAT' : '';
  return {
    text: `the DHT answers (${answered} of ${formatCount(nodes.length, 'node')})${as}${nat}`,
    wayOut:
      isAnnounced && isBehindNat === true && !isMapped
        ? 'start the daemon with map-port, or forward the TCP port for peers and the UDP port of the DHT to this machine in the router, and give the outer address with --hint HOST:PORT when you publish'
        : undefined,
  };
}

function ofNixConf(facts: Findings['nix-conf']): Sentence {
  const { substituters, trustedKeys, store, isAbsent, isTrustedUser, failure, isDaemonDenied } = facts;
  if (failure !== undefined && isDaemonDenied) return { text: failure, wayOut: undefined };
  if (failure !== undefined)
    return {
      text: `Nix failed (${failure})`,
      wayOut:
        'correct nix.conf if the message names it; otherwise start or restart nix-daemon, and try `nix store info` (`nix store ping` before Nix 2.19)',
    };
  const user =
    isTrustedUser === false
      ? ', this user is not trusted: imports need signatures by keys of the system’s nix.conf'
      : '';
  const place = isAbsent ? 'no Nix store yet' : `store ${store ?? 'unknown'}`;
  return {
    text: `${formatCount(substituters.length, 'substituter')}, ${formatCount(trustedKeys, 'trusted key')}, ${place}${user}`,
    wayOut: isAbsent
      ? 'mount it if it is on a disk of its own; otherwise Nix creates it when it is first used'
      : undefined,
  };
}

function ofKeys({ trusted, shared, unknown, failure }: Findings['keys']): Sentence {
  if (failure !== undefined) return { text: failure, wayOut: 'correct it: a key is NAME:BASE64' };
  if (trusted.length === 0)
    return {
      text: 'no key is trusted, so nothing can be verified',
      wayOut: 'add trusted-public-keys to nix.conf, or trusted-public-key to the config file',
    };
  const others = unknown.length === 0 ? '' : `; share-keys names ${unknown.join(', ')}, which is not trusted`;
  if (shared.length === 0)
    return {
      text: `${trusted.join(', ')} trusted, but NARs signed by them are not shared${others}`,
      wayOut: `name the keys to share in the config file, such as share-keys = ["${trusted[0]}"]`,
    };
  return {
    text: `${trusted.join(', ')} trusted; NARs signed by ${shared.join(', ')} are shared with neighbours${others}`,
    wayOut: undefined,
  };
}

function ofStore({ path, exists, failure, freeBytes, maxBytes }: Findings['store']): Sentence {
  const free = freeBytes === undefined ? '' : `, ${formatSize(freeBytes)} free`;
  const budget = maxBytes === undefined ? ', no max-size' : `, max-size ${formatSize(maxBytes)}`;
  if (failure !== undefined)
    return {
      text: `${path} cannot be written by this user (${failure})`,
      wayOut: 'run this as the user that fills it, check its permissions, or choose another --store',
    };
  return {
    text: `${path}${exists ? '' : ' is not there yet'}${free}${budget}`,
    wayOut: 'free some space, or lower max-size and run narswarm gc',
  };
}

const PURPOSES: Readonly<Record<Findings['firewall']['purpose'], string>> = {
  peers: 'for peers',
  http: 'for hash maps over HTTP',
  dht: 'for the DHT',
  discovery: 'for finding neighbours',
  mdns: 'for finding caches',
};

function ofPort({ protocol, port, purpose, listener, isOurs, daemonPid }: Findings['port']): Sentence {
  const name = `${protocol.toUpperCase()} ${port} ${PURPOSES[purpose]}`;
  if (isOurs) return { text: `${name} is the daemon’s`, wayOut: undefined };
  if (listener === undefined && daemonPid === undefined)
    return { text: `${name} is free for a daemon`, wayOut: undefined };
  if (listener === undefined)
    return {
      text: `${name} is free, but the daemon (process ${daemonPid}) does not listen on it`,
      wayOut:
        purpose === 'peers'
          ? 'the port was in use when the daemon started, or --port names another one here: start the daemon again'
          : undefined,
    };
  if (listener.work === 'publish')
    return { text: `${name} is that of narswarm publish (process ${listener.pid})`, wayOut: undefined };
  const who =
    listener.pid === undefined
      ? 'a process of another user'
      : `process ${listener.pid}${listener.command === undefined ? '' : `, ${listener.command}`}`;
  return {
    text: `${name} is in use by ${who}`,
    wayOut: 'stop that process, or choose another port: a daemon takes the next one, which a firewall may block',
  };
}

function ofFirewall(facts: Findings['firewall']): Sentence {
  const { protocol, port, purpose, interface: name, passage, source } = facts;
  const what = `${protocol.toUpperCase()} ${port} ${PURPOSES[purpose]} on ${name}`;
  if (source === undefined)
    return { text: `the firewall rules for ${what} cannot be read`, wayOut: 'run narswarm doctor as root' };
  if (passage === 'open') return { text: `${what} is let in (${source})`, wayOut: undefined };
  const wayOut = `open it: ${opening(facts)}`;
  return passage === 'closed'
    ? { text: `${what} is dropped by the firewall (${source})`, wayOut }
    : { text: `${what} may be dropped: narswarm does not understand all rules (${source})`, wayOut };
}

/** Returns the commands that let a packet in, and whether they last. */
function opening({ protocol, port, source, barriers, manager }: Findings['firewall']): string {
  switch (manager) {
    case 'nixos':
      return `on NixOS services.narswarm.openFirewall = true, or networking.firewall.allowed${protocol === 'tcp' ? 'TCP' : 'UDP'}Ports = [ ${port} ]`;
    case 'ufw':
      return `ufw allow ${port}/${protocol}`;
    case 'firewalld':
      return `firewall-cmd --permanent --add-port=${port}/${protocol} && firewall-cmd --reload`;
    default: {
      const rule = (chain: string): string =>
        source === 'nftables'
          ? `nft insert rule ${chain} ${protocol} dport ${port} accept`
          : `iptables -I ${chain} -p ${protocol} --dport ${port} -j ACCEPT`;
      return `${barriers.map(rule).join(' && ')}, and save the rules, so that they are there after a restart`;
    }
  }
}
