final: _prev: { narswarm = final.callPackage ./package.nix { }; }
