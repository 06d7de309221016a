//! The check of dependencies with cargo-deny: advisories, licences, bans and sources, as `deny.toml` has them.

use std::path::PathBuf;

use custody_local_stack::tools;
use xshell::cmd;

use crate::shell;

/// The version of cargo-deny that is installed where there is none.
const VERSION: &str = "0.20.2";

/// Checks the dependencies. Where the advisory database cannot be fetched, the other three checks run, and a warning reports
/// that no advisory was looked at, or which old copy was used.
pub(crate) fn check() -> anyhow::Result<()> {
    let deny: PathBuf = tools::cargo_tool("cargo-deny", VERSION)?;
    let sh = shell::in_workspace()?;
    // The checks read the packages of every platform, and builds have downloaded those of this one only.
    shell::run_cargo(cmd!(sh, "cargo fetch --locked --quiet"))?;
    let fetched = cmd!(sh, "{deny} fetch db").quiet().ignore_stderr().run();
    if fetched.is_ok() {
        return shell::run_cargo(cmd!(sh, "{deny} check"));
    }
    println!("WARNING: the advisory database cannot be fetched.");
    if shell::run_cargo(cmd!(sh, "{deny} --offline check advisories").ignore_stderr()).is_ok() {
        println!(
            "WARNING: advisories were checked against the copy that is on this machine, which may be old."
        );
    } else {
        println!(
            "WARNING: no advisory was checked, because there is no copy of the database on this machine."
        );
    }
    shell::run_cargo(cmd!(sh, "{deny} --offline check bans licenses sources"))
}
