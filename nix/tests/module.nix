# Tests the examples on a real NixOS: they evaluate, their units can be written, and the program accepts their config
# files (checkConfig). Part of `nix flake check`.
{ pkgs }:
let
  inherit (pkgs) lib;

  evaluate =
    example:
    (import (pkgs.path + "/nixos/lib/eval-config.nix") {
      system = null;
      modules = [
        ../module.nix
        example
        {
          nixpkgs.pkgs = pkgs;
          boot.isContainer = true;
          system.stateVersion = lib.trivial.release;
        }
      ];
    }).config;

  files =
    name:
    let
      config = evaluate (../examples + "/${name}");
      refusals = map (item: item.message) (lib.filter (item: !item.assertion) config.assertions);
      unit = file: "${config.systemd.units.${file}.unit}/${file}";
    in
    assert lib.assertMsg (refusals == [ ]) (lib.concatLines refusals);
    [
      config.environment.etc."narswarm/config.toml".source
      (unit "narswarm.service")
      (unit "narswarm-update.service")
      (unit "narswarm-update.timer")
    ];
in
pkgs.runCommand "narswarm-module" { } ''
  cat ${
    lib.escapeShellArgs (
      lib.concatMap files [
        "builder.nix"
        "desktop.nix"
        "publisher.nix"
        "upgrade-hook.nix"
      ]
    )
  } > $out
''
