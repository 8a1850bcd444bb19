# Makes the daemon the first substituter of Nix, on NixOS and nix-darwin.
#
# - `mkBefore`: both systems append cache.nixos.org with mkAfter. Nix asks in this order among caches of the same
#   priority. The trusted keys stay those of the caches: the daemon passes their signatures on.
# - `fallback`: without it, Nix before 2.32 ends with an error if one substituter cannot be reached, even if others have
#   the path, and every Nix tries the silent one again for each path. With it, Nix leaves that one alone for a minute. It
#   also builds a path itself if its download fails. Nix before 2.9 aborts after that minute's first question, so it is
#   not told of the daemon.
# - `connect-timeout`: Nix before 2.30 waits five minutes for each connection that gets no answer, newer ones 5 or 15
#   seconds. So a machine without internet soon gets to the paths that its neighbours have.
#
# Unchanged: `download-attempts` and `stalled-download-timeout` apply to all caches, and a lower value would give up slow
# ones. A refused connection costs five attempts within five seconds, once a minute. `?retry-attempts=1` is known from Nix
# 2.35 on; older ones warn about it in each command.
{ config, lib, ... }:
let
  cfg = config.services.narswarm;
  version = lib.getVersion config.nix.package;
  isFit = lib.versionAtLeast version "2.9";
in
{
  config = lib.mkIf (cfg.enable && cfg.substituter.url != null && config.nix.enable) {
    nix.settings = lib.mkIf isFit {
      substituters = lib.mkBefore [ cfg.substituter.url ];
      fallback = lib.mkDefault true;
      connect-timeout = lib.mkDefault 15;
    };
    warnings =
      lib.optional (!isFit)
        "services.narswarm: Nix ${version} fails when a substituter is gone, so nix.conf does not name the daemon. Set nix.package to Nix 2.9 or newer, or services.narswarm.substituter.enable = false.";
  };
}
