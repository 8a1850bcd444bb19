#!/bin/sh
# A post-build-hook of Nix (nix.conf) that notes each build for add-built.sh. Nix runs it as root after each build, and the
# builds that need this one wait for it. So it only writes a small file. It never fails: Nix would start no further builds.
#
# A note has the derivation and, except from Nix 2.8, its outputs.
spool=${NARSWARM_SPOOL:-/var/spool/narswarm}
part=$spool/.part-$$
{
  mkdir -p "$spool/new" &&
    printf '%s\n' "$DRV_PATH ${OUT_PATHS-}" > "$part" &&
    mv "$part" "$spool/new/${DRV_PATH##*/}"
} || echo "narswarm: cannot note $DRV_PATH in $spool" >&2
exit 0
