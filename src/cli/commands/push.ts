import { join } from 'node:path';
import { Command } from 'commander';
import { pushDir } from '../../config/locations.ts';
import { NarswarmError, type HostFailure } from '../../errors.ts';
import { queryRegistrations } from '../../nix/programs/nix-queries.ts';
import { parseStorePath } from '../../nix/store-path.ts';
import type { HostResult, PushEvent } from '../../push/push.ts';
import type { Build, Waiting } from '../../push/watch.ts';
import { RUN_PORTS } from '../../wire/ports.ts';
import { openSigner } from './add.ts';
import { PushProgress } from '../live/push-lines.ts';
import { ShownProgress } from '../live/shown-progress.ts';
import type { Output } from '../output.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon, limitsOf, type RateFlags } from '../options/shared-options.ts';
import { shellWord } from '../words/shell-word.ts';
import { each, formatCount, formatDuration, formatSize, parseAddress, parsePort } from '../words/values.ts';
import { warningsTo } from '../words/warnings.ts';

interface PushFlags extends CommonOptions, RateFlags {
  readonly file?: string;
  readonly to?: string;
  readonly signKey?: string;
  readonly checkSigs: boolean;
  readonly sshOption?: readonly string[];
  readonly listen?: string;
  readonly port?: number;
  readonly watch?: boolean;
  readonly dryRun?: boolean;
}

export function pushCommand(): Command {
  const push = new Command('push')
    .summary('copy a closure to many hosts over ssh')
    .description(
      'copy a closure from the Nix store of this machine to many hosts at once, over ssh: each gives on to the others what it has',
    )
    .argument('<root>', 'store path, a link to one such as ./result, or an installable that is built here')
    .argument('<host...>', 'host as ssh takes it, such as root@server')
    .option('-f, --file <file>', 'Nix file in which ROOT is an attribute')
    .option('--to <store-uri>', 'Nix store on the hosts to import into (default: the local one of each)')
    .option('--sign-key <file>', 'secret key of Nix to sign the paths with; the hosts must trust its public key')
    .option(
      '--no-check-sigs',
      'let the hosts import paths without a trusted signature, on the word of this machine; there, the user must be one that Nix trusts',
    )
    .option(
      '--ssh-option <option>',
      'option for ssh, such as -p2222; may be repeated, after those of NIX_SSHOPTS',
      each(String),
    )
    .option('--listen <address>', 'address to listen on (default: all)', parseAddress)
    .option('--port <port>', 'TCP port for the hosts; 0 picks one', parsePort)
    .option('--watch', 'start while ROOT is still being built here: paths go out as they become valid')
    .option('-n, --dry-run', 'only tell what each host lacks');
  addCommon(
    push,
    [
      'narswarm push ./result root@web1 root@web2 root@web3',
      'narswarm push .#nixosConfigurations.web.config.system.build.toplevel root@web{1..8} --no-check-sigs',
      'narswarm push .#web root@web1 root@web2 --watch --no-check-sigs   # beside: nix build .#web',
      'narswarm push /run/current-system web1 web2 --sign-key /etc/nix/cache.secret --json',
      'NIX_SSHOPTS="-i deploy.key" narswarm push ./result root@web1 --dry-run',
    ],
    ['NOT_FOUND', 'STORE', 'NIX', 'LISTEN', 'HOSTS', 'INTERRUPTED'],
  );
  return push.action(
    command<PushFlags, [string, readonly string[]]>(async ({ output, signal, options }, root, names) => {
      const hosts = readHosts(names, output);
      const signer = options.signKey === undefined ? undefined : await openSigner(options.signKey, output);
      const builds = await buildsOf(root, options.file, signal);
      const isWatching = options.watch === true && options.dryRun !== true;
      const { watchBuilds } = await import('../../push/watch.ts');
      const roots = builds.flatMap((build) => build.roots);
      const withoutNix = 'install Nix here, since the paths come from its store';
      const closure = isWatching ? Promise.resolve([]) : queryRegistrations(roots, { signal, withoutNix });
      closure.catch(() => undefined); // the push fails for it
      const { push: pushTo } = await import('../../push/push.ts');
      const dryRun = options.dryRun === true;
      const startedAtMs = performance.now();
      const progress = new PushProgress(hosts);
      using shown = new ShownProgress(output);
      if (!output.json) shown.show(() => progress.now());
      const results = await pushTo({
        dir: join(pushDir(), 'outgoing'),
        closure,
        more: isWatching
          ? watchBuilds(builds, { signal, onWaiting: (waiting) => tellWaiting(output, waiting) })
          : undefined,
        hosts,
        signer,
        format: { compression: 'zstd' },
        sshOptions: [...(process.env['NIX_SSHOPTS'] ?? '').split(/\s+/).filter(Boolean), ...(options.sshOption ?? [])],
        args: options.to === undefined ? [] : ['--to', options.to],
        trusts: !options.checkSigs,
        network: { listen: options.listen, ports: options.port === undefined ? RUN_PORTS.peers : [options.port] },
        limits: limitsOf(options),
        dryRun,
        onEvent: (event) => {
          progress.take(event);
          tellEvent(output, event, dryRun);
        },
        onWarning: warningsTo(output),
        signal,
      });
      shown.stop();
      tellResults(output, results, { dryRun, durationMs: performance.now() - startedAtMs });
    }),
  );
}

/** @throws USAGE for a name that ssh would read as an option */
function readHosts(names: readonly string[], output: Output): readonly string[] {
  for (const name of names)
    if (name.startsWith('-') || name === '') throw new NarswarmError('USAGE', `"${name}" is not a host`);
  const hosts = [...new Set(names)];
  if (hosts.length < names.length) output.warn('some hosts are named twice: each gets everything once');
  return hosts;
}

/** Reads the root to push. @throws USAGE for a name that only a hash map could have; NOT_FOUND, NIX_FAILED … */
async function buildsOf(root: string, file: string | undefined, signal: AbortSignal): Promise<readonly Build[]> {
  const { readFetchRoots } = await import('../../subscription/fetch-roots.ts');
  const wanted = await readFetchRoots([root], { file });
  if (wanted.publishers.length > 0 || wanted.roots.some((text) => !text.includes('/')))
    throw new NarswarmError('USAGE', `${root} does not name something in the Nix store of this machine`);
  const paths = wanted.roots.map(parseStorePath);
  const evaluated = await wanted.evaluate(signal);
  return [...evaluated.values(), { roots: paths, buildInputs: [], buildInputsOf: async () => [] }];
}

function tellWaiting(output: Output, { paths, silentMs }: Waiting): void {
  if (output.json) output.result('waiting', { paths, silentMs: Math.round(silentMs) });
  else if (silentMs === 0) output.note(`waiting for nix build to make ${formatCount(paths, 'output')}`);
  else
    output.warn(
      `nothing was built for ${formatDuration(silentMs)}: if nix build has failed, start it again, or end this`,
    );
}

function tellEvent(output: Output, event: PushEvent, dryRun: boolean): void {
  switch (event.type) {
    case 'lacking': {
      const { host, paths, narBytes } = event;
      const text =
        paths === 0
          ? `${host} lacks nothing`
          : `${host} lacks ${formatCount(paths, 'path')}, ${formatSize(narBytes)} unpacked`;
      if (dryRun || output.json) output.result('lacking', { host, paths, narBytes }, text);
      else output.note(text);
      return;
    }
    case 'progress': {
      const { type: _, ...progress } = event.progress;
      if (output.json) output.result('progress', { host: event.host, ...progress });
      return;
    }
    case 'same': {
      const { host, sameAs } = event;
      output.warn(`${host} and ${sameAs} are one host: it gets everything once`, { host, sameAs });
      return;
    }
    case 'warning':
      output.warn(`${event.host}: ${event.text}`, { host: event.host });
      return;
    case 'done': {
      const { host, done } = event;
      const others = done.bytes - done.ofPush;
      output.result(
        'host-done',
        { host, ...done },
        `${host}: ${formatCount(done.paths, 'path')}, ${formatSize(done.bytes)} in ${formatDuration(done.durationMs)}${others > 0 ? `, ${formatSize(others)} of it from other hosts` : ''}`,
      );
      return;
    }
    case 'failed':
      if (output.json) output.result('host-failed', failureFacts(event));
      else output.note(`${event.host} failed`);
      return;
    case 'exporting':
  }
}

/** @throws HOST_FAILED if some hosts failed */
function tellResults(
  output: Output,
  results: readonly HostResult[],
  { dryRun, durationMs }: { readonly dryRun: boolean; readonly durationMs: number },
): void {
  const failed = results.flatMap(({ host, failure }) => (failure === undefined ? [] : [{ host, failure }]));
  const hosts = results.filter(({ sameAs }) => sameAs === undefined).length;
  const complete = hosts - failed.length;
  if (!dryRun)
    output.result(
      'pushed',
      { hosts, complete, durationMs: Math.round(durationMs) },
      `pushed  ${complete} of ${formatCount(hosts, 'host')} complete in ${formatDuration(durationMs)}`,
    );
  if (failed.length === 0) return;
  const names = failed.map(({ host }) => host);
  const lines = failed.map((one) => {
    const { message, wayOut } = failureFacts(one);
    return `${one.host}: ${message}${wayOut === null ? '' : `: ${wayOut}`}`;
  });
  const what = `${failed.length} of ${formatCount(hosts, 'host')} failed`;
  throw new NarswarmError(
    'HOST_FAILED',
    output.json ? `${what}: ${lines.join('; ')}` : [what, ...lines].join('\n       '),
    {
      facts: { hosts: names, failed: failed.length, total: hosts },
    },
  );
}

interface HostFailed {
  readonly host: string;
  readonly failure: NarswarmError<'HOST_FAILED'>;
}

/** Returns the facts of a failure for --json, with the way out. */
function failureFacts({ host, failure: { message, facts } }: HostFailed) {
  const { kind, exitStatus, hostCode } = facts;
  return {
    host,
    kind: kind ?? null,
    hostCode: hostCode ?? null,
    exitStatus: exitStatus ?? null,
    message,
    wayOut: kind === undefined ? null : wayOutOf(kind, host),
  };
}

/** Says what to do about a failure. Null if its message says it. */
function wayOutOf(kind: HostFailure, host: string): string | null {
  switch (kind) {
    case 'no-ssh':
      return 'install it (on Debian: apt-get install openssh-client)';
    case 'ssh':
      return `ssh ${shellWord(host)} true must work without a question; --ssh-option and NIX_SSHOPTS give it options`;
    case 'no-program':
      return 'install one of them there';
    case 'not-kept':
      return 'make room for it there, or a folder that can be written (XDG_CACHE_HOME), or install narswarm there';
    case 'other-build':
      return 'install the same one there';
    case 'lost':
      return 'run the same command again: what has arrived there is kept';
    case 'nonsense':
      return `look at what ssh ${shellWord(host)} true prints`;
    case 'not-the-same':
      return 'give each host a machine-id of its own (systemd-machine-id-setup)';
    case 'narswarm':
      return null;
    default:
      return kind satisfies never;
  }
}
