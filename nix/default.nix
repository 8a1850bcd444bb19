# `nix-build nix` for people without flakes. The modules are ./module.nix (NixOS), ./home-manager.nix and ./darwin.nix
# (nix-darwin), the overlay ./overlay.nix.
{
  pkgs ? import <nixpkgs> { },
}:
pkgs.callPackage ./package.nix { }
