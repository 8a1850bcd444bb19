# narswarm as a package: `pkgs.callPackage ./package.nix { }`, with nixpkgs 25.05 or newer.
#
# Fetches each npm package by its hash in package-lock.json, so this file has no hash to maintain. Compiles nothing: the
# result is a bundle that needs only Node.
{
  lib,
  stdenv,
  buildNpmPackage,
  importNpmLock,
  installShellFiles,
  makeWrapper,
  nodejs_24,
  nix,
  xz,
  bzip2,
  coreutils,
}:
let
  manifest = lib.importJSON ../package.json;
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../src
      ../packaging
      ../package.json
      ../package-lock.json
      ../rolldown.config.ts
      ./ports.json
      ./units.json
    ];
  };
  locked = import ./npm-lock.nix {
    package = manifest;
    packageLock = lib.importJSON ../package-lock.json;
    inherit (stdenv.buildPlatform.node) platform arch;
    libc = if stdenv.buildPlatform.isMusl then "musl" else "glibc";
  };
in
buildNpmPackage {
  pname = manifest.name;
  inherit (manifest) version;
  inherit src;

  nodejs = nodejs_24;
  npmDeps = importNpmLock {
    npmRoot = src;
    inherit (locked) package packageLock;
  };
  inherit (importNpmLock) npmConfigHook;
  # None of the packages has an install script.
  npmRebuildFlags = [ "--ignore-scripts" ];

  nativeBuildInputs = [
    installShellFiles
    makeWrapper
  ];

  # The bundle reads its version from the package.json above it. The tools come last in PATH, so that the machine's own
  # Nix, which fits its daemon, comes first.
  installPhase = ''
    runHook preInstall
    mkdir -p $out/lib/narswarm
    cp -r dist package.json $out/lib/narswarm/
    makeWrapper ${lib.getExe nodejs_24} $out/bin/narswarm \
      --add-flags --disable-sigusr1 \
      --add-flags $out/lib/narswarm/dist/main.js \
      --suffix PATH : ${
        lib.makeBinPath [
          nix
          xz
          bzip2
          coreutils
        ]
      }
    # Lix runs it as `lix narswarm`.
    ln -s narswarm $out/bin/lix-narswarm
    runHook postInstall
  '';

  # The program makes these files, so they exist only if it can run on the building machine.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    export HOME=$TMPDIR
    $out/bin/narswarm man > narswarm.1
    installManPage narswarm.1
    for shell in bash zsh fish; do
      $out/bin/narswarm completion $shell > narswarm.$shell
      installShellCompletion --cmd narswarm --$shell narswarm.$shell
    done
  '';

  doInstallCheck = stdenv.buildPlatform.canExecute stdenv.hostPlatform;
  installCheckPhase = ''
    runHook preInstallCheck
    test "$(HOME=$TMPDIR $out/bin/narswarm --version)" = ${manifest.version}
    HOME=$TMPDIR $out/bin/narswarm fetch --help > /dev/null
    runHook postInstallCheck
  '';

  meta = {
    inherit (manifest) description;
    license = lib.licenses.mit;
    mainProgram = "narswarm";
    # Nobody has tried it on macOS.
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}
