#!/bin/sh
# Exports the builds that post-build-hook.sh has noted into the file store, all of them by one `narswarm add`. Arguments are
# options of add, such as --sign-key FILE. A systemd path unit starts it (DirectoryNotEmpty=/var/spool/narswarm/new); its
# user must own the spool. If add fails, the next run exports the same builds, too.
spool=${NARSWARM_SPOOL:-/var/spool/narswarm}
mkdir -p "$spool/taken" || exit
for note in "$spool"/new/*; do
  if [ -e "$note" ]; then mv "$note" "$spool/taken/" || exit; fi
done
notes=$(cat "$spool"/taken/* 2>/dev/null)
# Names of store paths may have a question mark.
set -f

# The outputs of a note whose derivation and outputs are the arguments.
outputs() {
  drv=$1
  shift
  if [ $# -gt 0 ]; then printf '%s\n' "$@"; else nix-store --query --outputs "$drv"; fi
}

# Garbage may have been collected since the build.
paths=$(
  printf '%s\n' "$notes" | while read -r note; do
    # shellcheck disable=SC2086
    outputs $note 2>/dev/null
  done | sort -u | while read -r path; do
    if nix-store --check-validity "$path" 2>/dev/null; then printf '%s\n' "$path"; fi
  done
)
if [ -n "$paths" ]; then
  # shellcheck disable=SC2086
  narswarm add "$@" $paths || exit
fi
rm -r "$spool/taken"
