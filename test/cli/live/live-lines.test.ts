import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Line } from '../../../src/cli/live/line.ts';
import { LiveLines, type Room } from '../../../src/cli/live/live-lines.ts';
import { VirtualTerminal } from '../../support/virtual-terminal.ts';

const VS_CODE = { TERM_PROGRAM: 'vscode' };
const HISTORY = ['$ ls', 'a', 'b', '$ narswarm fetch'];

interface TerminalOptions {
  readonly columns?: number;
  readonly rows?: number;
  readonly wrapsAgain?: boolean;
  readonly env?: NodeJS.ProcessEnv;
  readonly history?: readonly string[];
}

/** Live lines below a few lines of a shell, and the time to wait for the next frame. */
async function below(
  t: TestContext,
  { columns = 80, rows = 24, wrapsAgain = true, env = VS_CODE, history = HISTORY }: TerminalOptions = {},
): Promise<{ terminal: VirtualTerminal; live: LiveLines; nextFrame: () => void }> {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const terminal = new VirtualTerminal(columns, rows, { wrapsAgain });
  terminal.write(history.map((line) => `${line}\n`).join(''));
  const live = new LiveLines({ screen: terminal, env });
  t.after(() => live.end());
  return { terminal, live, nextFrame: () => t.mock.timers.tick(100) };
}

/** As many lines as there are, each as wide as the room. */
function wideLines(count: number): (room: Room) => Line[] {
  let frame = 0;
  return ({ columns }) => {
    frame++;
    return Array.from({ length: count }, (_, at) => [
      { text: `${at}`.padEnd(columns - 8, '.') },
      { text: ` ${frame}` },
    ]);
  };
}

test('lines are redrawn in place, by one write a frame', async (t) => {
  const { terminal, live, nextFrame } = await below(t);
  let text = 'one';
  live.show(() => [[{ text: `first ${text}` }], [{ text: 'second' }]]);
  nextFrame();
  assert.deepEqual(await terminal.lines(), [...HISTORY, 'first one', 'second']);
  text = 'two';
  const { writes } = terminal;
  nextFrame();
  assert.deepEqual(await terminal.lines(), [...HISTORY, 'first two', 'second']);
  assert.equal(terminal.writes, writes + 1);
  nextFrame();
  assert.equal(terminal.writes, writes + 1, 'nothing has changed');
  live.stop();
  assert.deepEqual(await terminal.lines(), HISTORY);
});

test('fewer lines leave no remnants, and no lines nothing', async (t) => {
  const { terminal, live, nextFrame } = await below(t);
  let count = 3;
  live.show((room) => wideLines(count)(room));
  nextFrame();
  count = 1;
  nextFrame();
  assert.equal((await terminal.lines()).length, HISTORY.length + 1);
  count = 0;
  nextFrame();
  assert.deepEqual(await terminal.lines(), HISTORY);
});

test('everything else is printed above the lines', async (t) => {
  const { terminal, live, nextFrame } = await below(t);
  live.show(() => [[{ text: 'first' }], [{ text: 'second' }]]);
  nextFrame();
  live.above(() => terminal.write('warning: odd\n'));
  nextFrame();
  assert.deepEqual(await terminal.lines(), [...HISTORY, 'warning: odd', 'first', 'second']);
});

test('the end of the screen is reached', async (t) => {
  const { terminal, live, nextFrame } = await below(t, { rows: 6 });
  live.show(wideLines(4));
  for (let frame = 0; frame < 3; frame++) nextFrame();
  const lines = await terminal.lines();
  assert.deepEqual(lines.slice(0, 4), HISTORY);
  assert.equal(lines.length, 8);
});

test('text from strangers does not control the terminal', async (t) => {
  const { terminal, live, nextFrame } = await below(t);
  live.show(() => [[{ text: 'a\x1b[2Jb\nc\u{9b}1A' }]]);
  nextFrame();
  assert.deepEqual(await terminal.lines(), [...HISTORY, 'a\\u001b[2Jb c\\u009b1A']);
});

test('a line is cut where the terminal ends', async (t) => {
  const { terminal, live, nextFrame } = await below(t, { columns: 10 });
  live.show(() => [[{ text: 'abc' }, { text: 'defghijkl' }, { text: 'm' }]]);
  nextFrame();
  assert.equal((await terminal.lines()).at(-1), 'abcdefgh…');
});

test('a terminal that does not know its size is taken for one of 80 columns', async (t) => {
  const { terminal, live, nextFrame } = await below(t);
  t.mock.method(terminal, 'getWindowSize', () => [0, 0]);
  live.show(({ columns, rows }) => [[{ text: `${columns} ${rows}` }]]);
  nextFrame();
  assert.equal((await terminal.lines()).at(-1), '79 23');
});

test('a shell gets a clean line after Ctrl-Z, and the lines are below it after fg', async (t) => {
  const { terminal, live, nextFrame } = await below(t);
  live.show(() => [[{ text: 'first' }], [{ text: 'second' }]]);
  nextFrame();
  const shell = ['[1]+  Stopped', '$ fg'];
  const kill = t.mock.method(process, 'kill', () => {
    terminal.write(shell.map((line) => `${line}\n`).join(''));
    return true;
  });
  process.emit('SIGTSTP');
  process.emit('SIGCONT');
  assert.deepEqual(kill.mock.calls[0]?.arguments, [process.pid, 'SIGTSTP']);
  assert.deepEqual(await terminal.lines(), [...HISTORY, ...shell, 'first', 'second']);
  live.stop();
  assert.deepEqual(await terminal.lines(), [...HISTORY, ...shell]);
});

test('Ctrl-C leaves a clean line, with and without lines', async (t) => {
  const { terminal, live, nextFrame } = await below(t);
  live.show(wideLines(2));
  nextFrame();
  terminal.write('^C');
  live.interrupt();
  assert.deepEqual(await terminal.lines(), HISTORY);
  const idle = new LiveLines({ screen: terminal, env: {} });
  terminal.write('^C');
  idle.interrupt();
  assert.deepEqual(await terminal.lines(), HISTORY);
});

test('after the end, nothing is drawn', async (t) => {
  const { terminal, live, nextFrame } = await below(t);
  live.show(wideLines(2));
  nextFrame();
  live.end();
  live.show(wideLines(2));
  nextFrame();
  assert.deepEqual(await terminal.lines(), HISTORY);
});

for (const { name, wrapsAgain, env } of [
  { name: 'a terminal that wraps lines again', wrapsAgain: true, env: VS_CODE },
  { name: 'a terminal that never wraps lines again', wrapsAgain: false, env: {} },
]) {
  const long = Array.from({ length: 60 }, (_, at) => `earlier ${at}`.padEnd(50, '-'));
  for (const history of [HISTORY, long])
    for (const columns of [120, 79, 61, 40, 30, 23])
      test(`${name} has no remnants at ${columns} columns, below ${history.length} lines`, async (t) => {
        const { terminal, live, nextFrame } = await below(t, { wrapsAgain, env, history });
        live.show(wideLines(5));
        nextFrame();
        for (const size of [columns, 80]) {
          await terminal.resize(size, 24);
          terminal.signalSize();
          const lines = await terminal.lines();
          if (wrapsAgain) assert.deepEqual(lines.slice(0, history.length), history);
          assert.equal(lines.length, history.length + 5, lines.join('\n'));
        }
      });

  test(`${name} has no remnants if it changes in the middle of frames`, async (t) => {
    const { terminal, live, nextFrame } = await below(t, { wrapsAgain, env });
    live.show(wideLines(5));
    nextFrame();
    for (const columns of [60, 40, 39, 20]) {
      // The program writes for the old size, and hears of the new one later.
      const before = terminal.getWindowSize();
      await terminal.resize(columns, 24);
      const now = t.mock.method(terminal, 'getWindowSize', () => before);
      nextFrame();
      nextFrame();
      now.mock.restore();
      terminal.signalSize();
      const lines = await terminal.lines();
      assert.deepEqual(lines.slice(0, HISTORY.length), HISTORY, `${columns} columns:\n${lines.join('\n')}`);
      assert.equal(lines.length, HISTORY.length + 5, `${columns} columns:\n${lines.join('\n')}`);
    }
  });
}
