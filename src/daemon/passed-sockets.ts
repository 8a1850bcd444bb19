/** The first descriptor that a service manager passes. */
const FIRST_DESCRIPTOR = 3;

/**
 * Takes the listening sockets that a service manager has opened for this process (socket activation: sd_listen_fds(3)).
 * Removes the variables that tell of them: programs that this process starts do not get the sockets.
 *
 * @param pid number of this process. Sockets of another one are not taken
 * @returns their descriptors
 */
export function takePassedSockets(env: NodeJS.ProcessEnv, pid: number = process.pid): number[] {
  const { LISTEN_FDS: count = '', LISTEN_PID: of } = env;
  for (const name of ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES']) delete env[name];
  if (of !== String(pid) || !/^\d{1,3}$/.test(count)) return [];
  return Array.from({ length: Number(count) }, (_, index) => FIRST_DESCRIPTOR + index);
}
