{
  description = "Prefetches Nix closures over BitTorrent";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      eachSystem =
        make:
        lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = eachSystem (pkgs: rec {
        narswarm = pkgs.callPackage ./nix/package.nix { };
        default = narswarm;
      });

      apps = eachSystem (pkgs: rec {
        narswarm = {
          type = "app";
          program = lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.narswarm;
          meta.description = "Prefetches Nix closures over BitTorrent";
        };
        default = narswarm;
      });

      overlays.default = import ./nix/overlay.nix;

      nixosModules = rec {
        narswarm = ./nix/module.nix;
        default = narswarm;
      };

      homeManagerModules = rec {
        narswarm = ./nix/home-manager.nix;
        default = narswarm;
      };
      darwinModules = rec {
        narswarm = ./nix/darwin.nix;
        default = narswarm;
      };

      checks = eachSystem (pkgs: {
        package = self.packages.${pkgs.stdenv.hostPlatform.system}.narswarm;
        module = import ./nix/tests/module.nix { inherit pkgs; };
        vm = import ./nix/tests/vm.nix { inherit pkgs; };
      });
    };
}
