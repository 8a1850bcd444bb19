/** One deploy host and many servers, narswarm beside `nix copy`: `npm run bench:push`, see `--help`; needs root. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { execa } from 'execa';
import { parseArgs } from 'node:util';
import { Lab } from '../support/lab.ts';
import { Lan, type Host } from '../support/namespaces.ts';
import { makeSshUser, SshHost, type SshUser } from '../support/ssh-host.ts';
import type { MadeClosure } from '../../src/demo/closure.ts';

const HELP = `Usage: npm run bench:push -- [options]

Pushes a closure of random bytes to servers with lines of the same rate, and copies it by nix copy over ssh.

  --hosts <n>   number of servers (default: 8)
  --kbit <n>    rate of every line in kbit/s (default: 100000)
  --mb <n>      size of the closure (default: 40)
  --only <name> one of: one, all, in-turn, at-once`;

interface Stage {
  readonly lab: Lab;
  readonly made: MadeClosure;
  readonly user: SshUser;
  readonly kbit: number;
}

/** Sends the closure from the deploy host to the servers. */
type Way = (stage: Stage, deploy: Host, servers: readonly SshHost[]) => Promise<void>;

const push: Way = async ({ lab, made, user }, deploy, servers) => {
  const run = await lab.run(['push', made.root, ...servers.map(({ name }) => name)], {
    wrapper: deploy.wrapper,
    env: { NIX_REMOTE: `local?root=${made.buildStore}`, NIX_SSHOPTS: user.sshOptions },
    limitMs: 600_000,
  });
  assert.equal(run.status, 0, run.stderr);
  for (const { event, host, bytes, ofPush, durationMs } of run.events)
    if (event === 'host-done')
      console.error(
        `  ${String(host)}: ${String(bytes)} bytes, ${String(ofPush)} of them from the deploy host, ${String(durationMs)} ms`,
      );
};

async function copy({ lab, made, user }: Stage, deploy: Host, server: SshHost): Promise<void> {
  const [program, ...wrapped] = deploy.wrapper;
  const args = ['--extra-experimental-features', 'nix-command', 'copy', '--to', `ssh://${server.name}`, made.root];
  await execa(program, [...wrapped, 'nix', ...args], {
    env: { ...lab.env, NIX_REMOTE: `local?root=${made.buildStore}`, NIX_SSHOPTS: user.sshOptions },
  });
}

const WAYS: Readonly<Record<string, { readonly what: string; readonly many: boolean; readonly way: Way }>> = {
  one: { what: 'narswarm push to one', many: false, way: push },
  all: { what: 'narswarm push to all', many: true, way: push },
  'in-turn': {
    what: 'nix copy to each in turn',
    many: true,
    way: async (stage, deploy, servers) => {
      for (const server of servers) await copy(stage, deploy, server);
    },
  },
  'at-once': {
    what: 'nix copy to all at once',
    many: true,
    way: async (stage, deploy, servers) => void (await Promise.all(servers.map((one) => copy(stage, deploy, one)))),
  },
};

const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: '8' },
    kbit: { type: 'string', default: '100000' },
    mb: { type: 'string', default: '40' },
    only: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) console.log(HELP);
else await main();

async function main(): Promise<void> {
  await using lab = await Lab.open();
  const blobs = Array.from({ length: 8 }, () => Math.round((Number(values.mb) * 1e6) / 8));
  const [made, user] = await Promise.all([lab.closure(blobs), makeSshUser(lab)]);
  const stage: Stage = { lab, made, user, kbit: Number(values.kbit) };
  for (const [name, { what, many, way }] of Object.entries(WAYS)) {
    if (values.only !== undefined && values.only !== name) continue;
    const { seconds, processorSeconds } = await play(stage, many ? Number(values.hosts) : 1, way);
    const [time, work] = [seconds, processorSeconds].map((value) => value.toFixed(1).padStart(6));
    console.log(`${what.padEnd(26)} ${time} s, ${work} s of all processors`);
  }
}

/** @returns seconds until all servers have the closure, and what all processors of this machine did meanwhile */
async function play(
  stage: Stage,
  count: number,
  way: Way,
): Promise<{ readonly seconds: number; readonly processorSeconds: number }> {
  await using lan = Lan.open();
  const rate = { upKbit: stage.kbit, downKbit: stage.kbit };
  const deploy = lan.host('deploy', rate);
  const trustedKeys = [stage.made.publicKey];
  const { lab, user } = stage;
  const servers = await Promise.all(
    Array.from({ length: count }, (_, index) =>
      SshHost.start(lab, lan.host(`s${index + 1}`, rate), { user, trustedKeys }),
    ),
  );
  const before = workedSeconds();
  const startedAtMs = performance.now();
  await way(stage, deploy, servers);
  const seconds = (performance.now() - startedAtMs) / 1000;
  const used = workedSeconds() - before;
  for (const server of servers) assert.ok(server.isValid(stage.made.root), `${server.name} lacks it`);
  return { seconds, processorSeconds: used };
}

/** Returns the seconds that the processors of this machine have worked since its start (proc(5), the first line of stat). */
function workedSeconds(): number {
  const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = readFileSync('/proc/stat', 'utf8')
    .slice(0, 200)
    .split(/\s+/)
    .map(Number);
  return (user + nice + system + irq + softirq) / 100;
}
