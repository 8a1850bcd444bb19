import { getPriority, setPriority } from 'node:os';

/** Lowers the priority of a process, or on Linux of a thread, if that is allowed. @param nice 1 to 19 */
export function lowerPriority(id: number, nice: number): void {
  try {
    if (getPriority(id) < nice) setPriority(id, nice);
  } catch {
    // forbidden, or it has ended
  }
}
