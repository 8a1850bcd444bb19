import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { suite, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ownName, runningMachine, stateOfOwner } from '../../src/disk/owner.ts';

suite('the owner of a name', () => {
  test('is alive as long as its process runs', async () => {
    assert.equal(await stateOfOwner(await ownName()), 'alive');
    assert.equal(await stateOfOwner(`${await runningMachine()}-${process.pid}-1-abc`), 'gone');
  });

  test('is gone if it was killed and nobody waits for it, as in many containers', async (t) => {
    const pid = await pidFrom(t, 'sh', ['-c', 'sleep 1000 & echo $!; exec sleep 1000']);
    const name = await nameOf(pid);
    assert.equal(await stateOfOwner(name), 'alive');
    process.kill(pid, 'SIGKILL');
    await untilZombie(pid);
    assert.equal(await stateOfOwner(name), 'gone');
  });

  test('is alive as long as one of its threads is, such as one that writes to a slow disk', async (t) => {
    const script = `
import ctypes, os, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
print(os.getpid(), flush=True)
ctypes.CDLL(None).pthread_exit(None)
`;
    const pid = await pidFrom(t, 'python3', ['-c', script]);
    const name = await nameOf(pid);
    await untilZombie(pid);
    assert.equal(await stateOfOwner(name), 'alive');
  });
});

/** Starts a program that prints the number of a process. */
async function pidFrom(t: TestContext, file: string, args: readonly string[]): Promise<number> {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return Number(line.toString());
}

async function nameOf(pid: number): Promise<string> {
  return `${await runningMachine()}-${pid}-${statOf(pid)[19] ?? ''}-abc`;
}

async function untilZombie(pid: number): Promise<void> {
  while (statOf(pid)[0] !== 'Z') await sleep(10);
}

function statOf(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}
