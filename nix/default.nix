# `nix-build nix` for people without flakes. The module is ./module.nix, the overlay ./overlay.nix.
{
  pkgs ? import <nixpkgs> { },
}:
pkgs.callPackage ./package.nix { }
