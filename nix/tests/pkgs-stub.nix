# The part of pkgs that module.nix and the examples need. Builds nothing: files are text that the tests read.
{ lib }:
let
  inherit (builtins) attrNames concatStringsSep filter isAttrs map toJSON;

  # Writes TOML of tables, lists of plain values, and plain values. JSON's strings are valid in TOML, too.
  toTOML =
    path: table:
    let
      names = attrNames table;
      plain = filter (name: !(isAttrs table.${name})) names;
      lines = map (name: "${toJSON name} = ${toJSON table.${name}}\n") plain;
      header = if path == [ ] then "" else "\n[${concatStringsSep "." (map toJSON path)}]\n";
      tables = map (name: toTOML (path ++ [ name ]) table.${name}) (filter (name: isAttrs table.${name}) names);
    in
    header + concatStringsSep "" (lines ++ tables);

  # Well-formed paths of packages that do not exist.
  fake = name: "${builtins.storeDir}/${builtins.substring 0 32 (builtins.hashString "sha256" name)}-${name}";
  # Real derivations: their paths depend on them, as in nixpkgs. Nobody builds them.
  package =
    pname: version:
    derivation {
      name = "${pname}-${version}";
      system = "x86_64-linux";
      builder = "/bin/false";
    }
    // {
      inherit pname version;
      meta.mainProgram = pname;
    };
  value =
    with lib.types;
    oneOf [
      bool
      int
      float
      str
      (attrsOf value)
      (listOf value)
    ];
in
{
  stdenv.buildPlatform.canExecute = _: true;
  stdenv.hostPlatform.isLinux = true;
  formats.toml =
    { }:
    {
      type = value;
      generate = name: settings: {
        outPath = fake name;
        text = toTOML [ ] settings;
      };
    };
  runCommand = name: _: script: {
    outPath = fake name;
    inherit script;
  };
  writeShellScript = name: script: {
    outPath = fake name;
    inherit script;
  };

  narswarm = package "narswarm" "0";
  nix = package "nix" "2.28.5";
  nix_2_8 = package "nix" "2.8.1";
  gitMinimal = package "git-minimal" "2.39";
  openssh = package "openssh" "9.2";
  coreutils = package "coreutils" "9.5";
  systemd = package "systemd" "252";
  hello = package "hello" "2.12";
  jq = package "jq" "1.7";
  nodejs_22 = package "nodejs" "22";
  nodejs_24 = package "nodejs" "24";
  gtk = package "gtk+" "3";
  unknown = package "unknown" "1" // {
    outPath = "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9";
  };
}
