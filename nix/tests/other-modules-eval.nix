# Evaluates home-manager.nix and darwin.nix for a configuration, each with a stub of the options that it sets:
#
#   nix-instantiate --eval --strict --json --expr 'import nix/tests/other-modules-eval.nix { config = { … }; }'
#
# Uses the lib of nixpkgs as module-eval.nix does.
{
  nixpkgsLib ? builtins.getEnv "NIXPKGS_LIB",
  config ? { },
}:
let
  lib = if nixpkgsLib == "" then import ./lib-stub.nix else import (/. + nixpkgsLib);
  inherit (lib) types;
  pkgs = import ./pkgs-stub.nix { inherit lib; };

  option = default: type: lib.mkOption { inherit default type; };
  list = option [ ];
  attrs = type: option { } (types.attrsOf type);
  common = {
    assertions = list (types.listOf types.anything);
    warnings = list (types.listOf types.str);
  };

  home = common // {
    home.packages = list (types.listOf types.package);
    xdg.configFile = attrs types.anything;
    systemd.user.services = attrs (types.attrsOf (types.attrsOf types.anything));
    systemd.user.sockets = attrs (types.attrsOf (types.attrsOf types.anything));
    systemd.user.timers = attrs (types.attrsOf (types.attrsOf types.anything));
  };

  darwin = common // {
    environment.systemPackages = list (types.listOf types.package);
    environment.etc = attrs types.anything;
    nix.enable = option true types.bool;
    nix.package = option pkgs.nix types.package;
    nix.settings = attrs types.anything;
    users.users = attrs types.anything;
    users.groups = attrs types.anything;
    users.knownUsers = list (types.listOf types.str);
    users.knownGroups = list (types.listOf types.str);
    launchd.daemons = attrs (types.submodule {
      options = {
        command = lib.mkOption { type = types.str; };
        path = list (types.listOf types.anything);
        environment = attrs types.str;
        serviceConfig = attrs types.anything;
      };
    });
  };

  evaluate =
    options: module:
    (lib.evalModules {
      modules = [
        { _module.args = { inherit pkgs; }; }
        { inherit options; }
        module
        { services.narswarm.enable = true; }
        { services.narswarm = config; }
      ];
    }).config;
  refusals = config: map (item: item.message) (lib.filter (item: !item.assertion) config.assertions);
  tomlOf = config: (import ../settings.nix { inherit lib; }).given config.services.narswarm.settings;
in
{
  home =
    let
      config = evaluate home ../home-manager.nix;
    in
    {
      inherit (config.systemd.user) services sockets timers;
      inherit (config) warnings;
      files = lib.attrNames config.xdg.configFile;
      settings = tomlOf config;
      refusals = refusals config;
    };
  darwin =
    let
      config = evaluate darwin ../darwin.nix;
    in
    {
      inherit (config.launchd) daemons;
      inherit (config) users warnings;
      nix = config.nix.settings;
      settings = tomlOf config;
      refusals = refusals config;
    };
}
