import type { FastifyRequest } from 'fastify';
import { isLoopback } from '../discovery/foreign-addresses.ts';

/** Headers of a request that a proxy has passed on. Each proxy adds one of them, by default or as its guides advise. */
const OF_PROXIES = ['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip'];

/**
 * Returns true if a program on this machine asks. A proxy on this machine, such as one that adds TLS, may ask for another
 * one.
 */
export function isLocalRequest({ socket, headers }: Pick<FastifyRequest, 'socket' | 'headers'>): boolean {
  const isPassedOn = OF_PROXIES.some((name) => headers[name] !== undefined);
  return !isPassedOn && isLoopback((socket.remoteAddress ?? '').replace(/^::ffff:/, ''));
}
