# Makes the daemon the first substituter of Nix, on NixOS and nix-darwin.
#
# - `mkBefore`: both systems append cache.nixos.org with mkAfter. Nix asks in this order among caches of the same
#   priority. The trusted keys stay those of the caches: the daemon passes their signatures on.
# - `fallback`: without it, Nix before 2.32 ends with an error if one substituter cannot be reached, even if others have
#   the path, and every Nix tries the silent one again for each path. With it, Nix leaves that one alone for a minute. It
#   also builds a path itself if its download fails.
# - `connect-timeout`: Nix before 2.30 waits five minutes for each connection that gets no answer, newer ones 5 or 15
#   seconds. So a machine without internet soon gets to the paths that its neighbours have.
#
# Unchanged: `download-attempts` and `stalled-download-timeout` apply to all caches, and a lower value would give up slow
# ones. A refused connection costs five attempts within five seconds, once a minute. `?retry-attempts=1` is known from Nix
# 2.35 on; older ones warn about it in each command.
{ config, lib, ... }:
let
  cfg = config.services.narswarm;
in
{
  config.nix.settings = lib.mkIf (cfg.enable && cfg.substituter.url != null && config.nix.enable) {
    substituters = lib.mkBefore [ cfg.substituter.url ];
    fallback = lib.mkDefault true;
    connect-timeout = lib.mkDefault 15;
  };
}
