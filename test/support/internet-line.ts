/** A household on a slow internet line with a long queue, and servers beyond it, in network namespaces. */
import { spawnSync } from 'node:child_process';
import { Lan, type Host } from './namespaces.ts';
import { Service, type ProcessOptions } from '../bench/process.ts';
import { fileURLToPath } from 'node:url';

const FAR_ROUTER = '10.88.0.254';
const FAR_SUBNET = '10.88.0';
const DEVICE = 'far0';

export interface InternetLineOptions {
  readonly downKbit: number;
  readonly upKbit: number;
  /** Time that packets wait in a full queue. */
  readonly queueMs: number;
  readonly roundTripMs: number;
  readonly python: string;
  readonly process: ProcessOptions;
}

/** The congestion control of a sender. */
export type Congestion = 'cubic' | 'bbr' | 'reno';

export class InternetLine implements AsyncDisposable {
  readonly #home: Lan;
  readonly #far: Lan;
  readonly #router: Host;
  readonly #stack: AsyncDisposableStack;

  private constructor(home: Lan, far: Lan, router: Host, stack: AsyncDisposableStack) {
    this.#home = home;
    this.#far = far;
    this.#router = router;
    this.#stack = stack;
  }

  static async open(options: InternetLineOptions): Promise<InternetLine> {
    await using stack = new AsyncDisposableStack();
    const home = stack.use(Lan.open());
    const far = stack.use(Lan.open({ subnet: FAR_SUBNET }));
    const router = home.host('router');
    const script = fileURLToPath(new URL('distant_line.py', import.meta.url));
    const ends = [router.namespace, DEVICE, far.switchName, DEVICE, String(options.roundTripMs / 2)] as const;
    stack.use(await Service.start([options.python, script, ...ends], options.process));
    router.ip(`link set ${DEVICE} up`, `address add ${FAR_ROUTER}/24 dev ${DEVICE}`);
    router.run('sysctl', '-qw', 'net.ipv4.ip_forward=1');
    spawnSync('ip', ['-netns', far.switchName, 'link', 'set', DEVICE, 'master', 'br0', 'up'], { stdio: 'inherit' });
    const limit = (device: string, kbit: number): string =>
      router.run(
        ...(['tc', 'qdisc', 'replace', 'dev', device, 'root', 'tbf'] as const),
        ...(['rate', `${kbit}kbit`, 'burst', '5000', 'latency', `${options.queueMs}ms`] as const),
      );
    limit('eth0', options.downKbit);
    limit(DEVICE, options.upKbit);
    return new InternetLine(home, far, router, stack.move());
  }

  /** Adds a machine of the household. */
  machine(name: string): Host {
    const host = this.#home.host(name);
    host.ip(`route add default via ${this.#router.ipv4}`);
    return host;
  }

  /** Adds a server on the internet. */
  server(name: string, congestion: Congestion): Host {
    const host = this.#far.host(name);
    host.ip(`route add default via ${FAR_ROUTER} congctl ${congestion}`);
    return host;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}
