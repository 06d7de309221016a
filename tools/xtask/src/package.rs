//! Packages of the functions as AWS gets them: `cargo xtask package`. Builds for arm64 with the tools that `sam build` uses, writes an
//! archive and a bill of materials (`CycloneDX`) for each function, and prints the digests.
//!
//! *Invariant:* the same commit and compiler make the same archives, in any folder. `--verify` builds a second time, from a copy of the
//! sources in another folder, and compares.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use custody_local_stack::{progress, tools, tools::Python, workspace};
use xshell::cmd;

use crate::{build::function_names, shell};

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Options {
    /// The functions to package; all of them if none is named.
    functions: Vec<String>,
    /// Build a second time, from a copy of the committed sources in another folder, and fail if an archive differs.
    #[arg(long)]
    verify: bool,
    /// Build with `sam build`, too, and fail if a program differs.
    #[arg(long)]
    sam: bool,
    /// Build without optimization, which is fast. Such archives are for checks only.
    #[arg(long)]
    quick: bool,
}

/// The target of Lambda's arm64.
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The version of cargo-cyclonedx that is installed where there is none.
const CYCLONEDX_VERSION: &str = "0.5.9";

/// The digests of archives, by function.
type Digests = BTreeMap<String, String>;

/// Packages the functions, and prints where they are.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(has_target()?, "the compiler has no standard library for {TARGET}: `rustup target add {TARGET}`");
    let functions = if options.functions.is_empty() { function_names()? } else { options.functions.clone() };
    let python = python()?;
    let here = workspace::root().join("target/package");
    let digests = build(&python, workspace::root(), &here, &functions, options.quick)?;
    for function in &functions {
        write_bill_of_materials(function, &here.join("lambda").join(function))?;
    }
    println!(
        "The archives are in target/package/lambda, each with its bill of materials. SHA-256 of the archives:"
    );
    for (function, digest) in &digests {
        println!("  {digest}  {function}");
    }
    if options.sam {
        for function in &functions {
            let by_sam =
                sam_build(Some(function), options.quick)?.join(logical_id(function)).join("bootstrap");
            let packaged = here.join("programs").join(function).join("bootstrap");
            let read = |file: &Path| fs::read(file).with_context(|| format!("read {}", file.display()));
            ensure!(read(&by_sam)? == read(&packaged)?, "`sam build` makes another program of {function}");
        }
        println!("`sam build` makes the same programs.");
    }
    if options.verify {
        let folder = tempfile::tempdir().context("make a folder for the second build")?;
        let sources = folder.path().join("sources");
        let (root, sh) = (workspace::root(), shell::in_workspace()?);
        cmd!(sh, "git clone --quiet {root} {sources}").run()?;
        let again = build(&python, &sources, &folder.path().join("target"), &functions, options.quick)?;
        ensure!(again == digests, "the second build differs: {again:?}");
        println!("The second build, of the committed sources in another folder, has the same archives.");
    }
    Ok(())
}

/// Builds one function without optimization: the check that cross-compilation works, and that `sam build` makes the same program. Where
/// the compiler has no target for it, the check says so.
pub(crate) fn check() -> anyhow::Result<()> {
    if !has_target()? {
        println!(
            "SKIPPED: the compiler has no standard library for {TARGET}, so nothing was built for arm64"
        );
        return Ok(());
    }
    run(&Options { functions: vec!["metadata".to_owned()], quick: true, sam: true, ..Options::default() })
}

fn python() -> anyhow::Result<Python> {
    let requirements = workspace::root().join("tools/xtask/package/requirements.txt");
    Python::environment(
        "package-venv",
        &requirements,
        "Installing cargo-lambda and zig into .custody/package-venv",
    )
}

/// Whether the compiler has a standard library for the target.
fn has_target() -> anyhow::Result<bool> {
    let sh = shell::in_workspace()?;
    let folder = cmd!(sh, "rustc --print target-libdir --target {TARGET}").quiet().read()?;
    Ok(Path::new(&folder).is_dir())
}

/// Builds functions from `sources`, and returns the digests of their archives.
fn build(
    python: &Python,
    sources: &Path,
    target: &Path,
    functions: &[String],
    quick: bool,
) -> anyhow::Result<Digests> {
    let programs = target.join("programs");
    let mut lambda = python.command("cargo-lambda");
    lambda.args(["lambda", "build", "--arm64", "--release", "--locked", "--lambda-dir"]).arg(&programs);
    for function in functions {
        lambda.args(["--package", function]);
    }
    progress::run_visibly(with_build_environment(&mut lambda, python, sources, target, quick)?)?;

    let archives = target.join("lambda");
    let mut digests = Digests::new();
    for function in functions {
        let archive = archives.join(function).join("bootstrap.zip");
        let digest = write_archive(python, &programs.join(function).join("bootstrap"), &archive)?;
        digests.insert(function.clone(), digest);
    }
    Ok(digests)
}

/// Sets what decides about the bytes that a build makes, and lets it find cargo-lambda and zig.
fn with_build_environment<'a>(
    build: &'a mut Command,
    python: &Python,
    sources: &Path,
    target: &Path,
    quick: bool,
) -> anyhow::Result<&'a mut Command> {
    let path = env::join_paths(
        [python.bin().to_owned()]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )?;
    build.current_dir(sources).env("PATH", path).env("CARGO_TARGET_DIR", target);
    build.env("RUSTFLAGS", remapped(sources, target));
    if quick {
        build.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
        build.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "256");
    }
    Ok(build)
}

/// Builds a function, or all of them, with `sam build`, as README's "Deploy to AWS" says. Returns the folder with the programs and the template.
/// [`build`] makes the same programs, because both use the same tools, sources and settings.
pub(crate) fn sam_build(function: Option<&str>, quick: bool) -> anyhow::Result<PathBuf> {
    let target = workspace::root().join("target/package");
    let folder = target.join("sam");
    let mut sam = Python::ready()?.command("sam");
    sam.arg("build")
        .args(function.map(logical_id))
        .arg("--build-dir")
        .arg(&folder)
        .env("SAM_CLI_TELEMETRY", "0");
    with_build_environment(&mut sam, &python()?, workspace::root(), &target, quick)?;
    progress::run_visibly(&mut sam)?;
    Ok(folder)
}

/// The name of a function's resource in the template.
fn logical_id(function: &str) -> String {
    let mut letters = function.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase()).into_iter();
    first.chain(letters).chain("Function".chars()).collect()
}

/// Returns flags of the compiler that take the folders of this machine out of what is built.
fn remapped(sources: &Path, target: &Path) -> String {
    let folder = |name: &str| env::var_os(name).map(PathBuf::from);
    let home = folder("CARGO_HOME").unwrap_or_else(|| folder("HOME").unwrap_or_default().join(".cargo"));
    let folders = [(sources, "/custody"), (target, "/custody/target"), (home.as_path(), "/cargo")];
    let flags = folders.map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display()));
    flags.join(" ")
}

/// Writes an archive with one program in it, and returns its SHA-256. The time in the archive is always the same.
fn write_archive(python: &Python, program: &Path, archive: &Path) -> anyhow::Result<String> {
    fs::create_dir_all(archive.parent().context("the folder of the archive")?)?;
    let mut zip = python.command("python");
    zip.arg(workspace::root().join("tools/xtask/package/archive.py")).arg(program).arg(archive);
    let output = zip.stderr(Stdio::inherit()).output().context("write an archive")?;
    ensure!(output.status.success(), "{} could not be written", archive.display());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Writes the bill of materials of a function: every package that is in its program, with version, licence and digest.
fn write_bill_of_materials(function: &str, folder: &Path) -> anyhow::Result<()> {
    let cyclonedx = tools::cargo_tool("cargo-cyclonedx", CYCLONEDX_VERSION)?;
    let manifest = workspace::root().join("functions").join(function).join("Cargo.toml");
    let mut list = Command::new(cyclonedx);
    list.args(["cyclonedx", "--quiet", "--format", "json", "--spec-version", "1.5", "--no-build-deps"])
        .args(["--target", TARGET, "--override-filename", "bill-of-materials", "--manifest-path"])
        .arg(&manifest);
    progress::run_visibly(&mut list)?;
    // The tool writes into the folder of each package of the workspace that the function consists of.
    let written = manifest.with_file_name("bill-of-materials.json");
    fs::copy(&written, folder.join("bill-of-materials.json"))
        .with_context(|| format!("copy {}", written.display()))?;
    let sh = shell::in_workspace()?;
    let [functions, crates] =
        ["functions", "crates"].map(|of| format!(":(glob){of}/*/bill-of-materials.json"));
    Ok(cmd!(sh, "git clean --quiet --force -x -- {functions} {crates}").quiet().run()?)
}
