import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { isLocalRequest } from '../../substituter/local-request.ts';
import type { Metrics } from './metrics.ts';
import type { DaemonView, Watch } from './watch.ts';

/** A page, and the only things that it may load or do. */
export interface Page {
  /** Value of the header Content-Security-Policy. */
  readonly policy: string;
  readonly html: (view: DaemonView) => string;
}

export interface WebOptions {
  readonly watch: Watch;
  readonly page: Page;
  /** True to answer other machines, too. The pages show the NARs of this machine, and their senders. */
  readonly isOpen: boolean;
}

/** Paths of the pages for people. */
export const PAGES: readonly string[] = ['/', '/status', '/health', '/metrics'];

/** Adds `/status`, `/health` and `/metrics`. Other machines get a 404 unless they are let in. */
export function addWebRoutes(app: FastifyInstance, { watch, page, isOpen }: WebOptions): void {
  let metrics: Promise<Metrics> | undefined;
  let counted: Metrics | undefined;
  /** Loads the library with the first question: most daemons are never asked. */
  const openMetrics = async (): Promise<Metrics> => {
    const { Metrics: Made } = await import('./metrics.ts');
    counted = new Made();
    watch.onFetch = (seconds) => counted?.onFetch(seconds);
    return counted;
  };

  app.addHook('onResponse', async (request, reply) => {
    const { url } = request.routeOptions;
    if (url !== undefined) counted?.onRequest(url, reply.elapsedTime / 1_000);
  });

  get('/', async (_, reply) => reply.redirect('/status'));

  get('/status', async (request, reply) => {
    const view = await watch.view();
    return reply
      .type('text/html; charset=utf-8')
      .header('content-security-policy', page.policy)
      .send(page.html(isLocalRequest(request) ? view : { ...view, inFlight: [] }));
  });

  get('/health', async (_, reply) => {
    const { problems, facts } = await watch.view();
    const { version, startedAt } = facts;
    const isHealthy = problems.length === 0;
    return reply.code(isHealthy ? 200 : 503).send({ healthy: isHealthy, problems, version, startedAt });
  });

  get('/metrics', async (_, reply) => {
    const all = await (metrics ??= openMetrics());
    return reply.type(all.contentType).send(await all.text(await watch.view()));
  });

  function get(url: string, answer: (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>): void {
    app.get(url, async (request, reply) => {
      if (!isOpen && !isLocalRequest(request)) return reply.code(404).type('text/plain').send('not found\n');
      void reply
        .header('cache-control', 'no-store')
        .header('cross-origin-resource-policy', 'same-origin')
        .header('referrer-policy', 'no-referrer')
        .header('x-content-type-options', 'nosniff');
      return answer(request, reply);
    });
  }
}
