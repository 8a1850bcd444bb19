import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Paths that any Nix takes in a URL as they are. */
const PLAIN = /^[\w/.~+=:@-]+$/;

/**
 * The URL of a binary cache in a folder, for any Nix and any name of the folder. Nix 2.8 does not decode URLs: it would make
 * another folder with `%20` in its name, and newer versions refuse a space. So a folder with such a name gets a symbolic link
 * below the temporary folder. Without that, the URL is one for newer versions.
 */
export class FolderUrl implements AsyncDisposable {
  readonly href: string;
  /** Undefined if the folder has no link. */
  readonly #linkDir: string | undefined;

  private constructor(href: string, linkDir?: string) {
    this.href = href;
    this.#linkDir = linkDir;
  }

  /** Never fails. @param dir an absolute path @param linksDir where to make the link. Default: the temporary folder */
  static async open(dir: string, linksDir = tmpdir()): Promise<FolderUrl> {
    if (PLAIN.test(dir)) return new FolderUrl(`file://${dir}`);
    const encoded = pathToFileURL(dir).href;
    if (!PLAIN.test(linksDir)) return new FolderUrl(encoded);
    let linkDir: string | undefined;
    try {
      linkDir = await mkdtemp(join(linksDir, 'narswarm-'));
      const link = join(linkDir, 'cache');
      await symlink(dir, link);
      return new FolderUrl(`file://${link}`, linkDir);
    } catch {
      return new FolderUrl(encoded, linkDir);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#linkDir !== undefined) await rm(this.#linkDir, { recursive: true, force: true });
  }
}
