import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileStore } from '../../store/file-store.ts';
import { parseTrafficLine, trafficFolder } from '../../store/traffic.ts';
import { USUAL_LINE_RATE } from './patch-choice.ts';
import { TRAFFIC_EVERY_MS } from '../traffic-recorder.ts';

const DAY_MS = 86_400_000;

/**
 * Estimates the rate of the line by the most that a process of this store has received in one interval, today and
 * yesterday. In bytes a second. (Lines of earlier days are sums of an hour.)
 */
export async function lineRateOf(store: FileStore, now = new Date()): Promise<number> {
  let most = 0;
  for (const day of [now, new Date(now.getTime() - DAY_MS)]) {
    const file = join(trafficFolder(store), `${day.toISOString().slice(0, 10)}.jsonl`);
    for (const text of (await readFile(file, 'utf8').catch(() => '')).split('\n')) {
      const bytes = Object.values(parseTrafficLine(text)?.from ?? {}).reduce((sum, count) => sum + count, 0);
      most = Math.max(most, bytes);
    }
  }
  return most === 0 ? USUAL_LINE_RATE : (most / TRAFFIC_EVERY_MS) * 1000;
}
