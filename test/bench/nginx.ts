/** nginx on a folder, as a rival of narswarm's HTTP port. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';

export interface NginxOptions {
  /** Address and port, or a port of all addresses, as in a configuration of nginx. */
  readonly listen: string;
  /** Folder for its configuration. */
  readonly dir: string;
  /** URL that answers once it is up. */
  readonly url: string;
  /** A command that runs others elsewhere, such as in a network namespace. Default: none. */
  readonly wrapper?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** Starts nginx on a folder, as Debian configures it, without its log. @throws Error if it does not start */
export async function startNginx(
  root: string,
  { listen, dir, url, wrapper = [], env }: NginxOptions,
): Promise<AsyncDisposable> {
  const config = join(dir, 'nginx.conf');
  await writeFile(
    config,
    `daemon off; pid ${dir}/nginx.pid; error_log /dev/null; user root; worker_processes auto; events {}
http { access_log off; sendfile on; tcp_nopush on; keepalive_timeout 65; keepalive_requests 1000000;
  server { listen ${listen}; root ${root}; } }\n`,
  );
  await chmod(root, 0o755);
  const [program, ...args] = [...wrapper, 'nginx', '-c', config];
  const child = spawn(program, args, { stdio: 'ignore', ...(env && { env }) });
  const [curl, ...asks] = [...wrapper, 'curl', '-sf', url];
  while ((await execa(curl, asks, { reject: false })).exitCode !== 0) {
    if (child.exitCode !== null) throw new Error('nginx did not start');
    await sleep(50);
  }
  return {
    async [Symbol.asyncDispose]() {
      child.kill('SIGQUIT');
      await once(child, 'close');
    },
  };
}
