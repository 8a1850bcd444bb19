# Evaluates module.nix for each case of the tests:
#
#   nix-instantiate --eval --strict --json nix/tests/module-eval.nix --arg cases 'pkgs: { name = { …configuration… }; }'
#
# Uses the lib of nixpkgs if NIXPKGS_LIB names its folder, otherwise the stub beside this file.
{
  nixpkgsLib ? builtins.getEnv "NIXPKGS_LIB",
  cases ? (_: {
    desktop = ../examples/desktop.nix;
  }),
  # True to end with the error of a configuration, whose message the result cannot have.
  failing ? false,
}:
let
  lib = if nixpkgsLib == "" then import ./lib-stub.nix else import (/. + nixpkgsLib);
  pkgs = import ./pkgs-stub.nix { inherit lib; };

  look =
    module:
    let
      inherit
        (lib.evalModules {
          modules = [
            { _module.args = { inherit pkgs; }; }
            (import ./nixos-stub.nix { inherit lib; })
            { nix.package = lib.mkDefault pkgs.nix; }
            ../module.nix
            module
          ];
        })
        config
        ;
      cfg = config.services.narswarm;
      settings = (import ../settings.nix { inherit lib; }).given cfg.settings;
      seen = {
        inherit (config.systemd) services sockets timers paths;
        inherit (config) warnings users;
        tmpfiles = config.systemd.tmpfiles.settings;
        inherit (config.networking.firewall) allowedTCPPorts allowedTCPPortRanges allowedUDPPorts;
        refusals = map (item: item.message) (lib.filter (item: !item.assertion) config.assertions);
        etc = lib.mapAttrs (_: file: "${file.source}") config.environment.etc;
        nix = config.nix.settings;
        toml = if cfg.enable then ((pkgs.formats.toml { }).generate "narswarm.toml" settings).text else "";
        context = builtins.attrNames (builtins.getContext (builtins.toJSON settings));
      };
      result = builtins.tryEval (builtins.deepSeq seen seen);
    in
    if failing then
      seen
    else if result.success then
      result.value
    else
      { error = true; };
in
lib.mapAttrs (_: look) (cases pkgs)
