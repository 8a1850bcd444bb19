/** Returns true for a system error that says that this process, or the system, cannot open more files. */
export function isTooManyFiles(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'EMFILE' || error.code === 'ENFILE');
}

/** The message for such an error, with the way out. It continues a sentence. */
export const TOO_MANY_FILES =
  'too many files are open: raise the limit (ulimit -n, or LimitNOFILE= in the service’s unit) and start narswarm again';
