# Evaluates nix/package.nix with build functions that only return their arguments: no nixpkgs, no builds.
{
  platform ? "linux",
  arch ? "x64",
}:
let
  stub = import ./lib-stub.nix;
  lib = stub // {
    fileset = {
      unions = map toString;
      toSource = { root, fileset }: "source";
    };
    licenses.mit = "MIT";
    platforms.linux = [ "x86_64-linux" ];
    platforms.darwin = [ "aarch64-darwin" ];
  };
  pkgs = import ./pkgs-stub.nix { lib = stub; };
in
import ../package.nix {
  inherit lib;
  inherit (pkgs) nix;
  nodejs_24 = pkgs.nodejs_24;
  stdenv = {
    buildPlatform.node = { inherit platform arch; };
    buildPlatform.canExecute = _: true;
    buildPlatform.isMusl = false;
    hostPlatform = { };
  };
  buildNpmPackage = arguments: arguments;
  importNpmLock = {
    __functor = _: arguments: arguments;
    npmConfigHook = "importNpmLock.npmConfigHook";
  };
  installShellFiles = "installShellFiles";
  makeWrapper = "makeWrapper";
  xz = "xz";
  bzip2 = "bzip2";
  coreutils = "coreutils";
}
