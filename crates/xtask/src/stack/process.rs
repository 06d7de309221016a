//! The processes of a stack: started in the background, found again by a mark in their environment or by the folder
//! they work in.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The variable that marks a process as one of the stack in the folder it names. Children inherit it.
const MARK: &str = "CUSTODY_STACK";

/// Starts a process that outlives this program. It gets no environment but what `command` sets, a folder for
/// temporary files, and the mark. Its output goes to `logs/<name>.log`.
pub(super) fn start(folder: &Path, name: &str, command: &mut Command) -> anyhow::Result<()> {
    let (logs, temporary) = (folder.join("logs"), folder.join("tmp"));
    fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    fs::create_dir_all(&temporary).with_context(|| format!("make {}", temporary.display()))?;
    let log =
        File::create(logs.join(format!("{name}.log"))).with_context(|| format!("write the log of {name}"))?;
    let mut child = command
        .env(MARK, folder)
        .env("HOME", folder)
        .env("TMPDIR", &temporary)
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {name}"))?;
    // Gives an instant failure (a bad option, a missing library) the time to show.
    thread::sleep(Duration::from_millis(50));
    if let Some(status) = child.try_wait()? {
        bail!("{name} ended at once with {status}; see {}", logs.join(format!("{name}.log")).display());
    }
    Ok(())
}

/// Waits until something listens on a loopback port.
pub(super) fn wait_for_port(port: u16, what: &str, timeout: Duration) -> anyhow::Result<()> {
    wait_until(&format!("{what} on port {port}"), timeout, || listens(port))
}

/// Waits until a condition holds.
pub(super) fn wait_until(what: &str, timeout: Duration, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    while !holds() {
        if Instant::now() > deadline {
            bail!("{what} did not come up within {} s; see the stack's logs folder", timeout.as_secs());
        }
        thread::sleep(Duration::from_millis(30));
    }
    Ok(())
}

/// Whether something listens on a loopback port.
pub(super) fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(500)).is_ok()
}

/// The processes of the stack in `folder`. A shell that somebody has open in there is one, too.
pub(super) fn of_stack(folder: &Path) -> anyhow::Result<Vec<Pid>> {
    let mark = format!("{MARK}={}", folder.display());
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes of other users, and such that end while this looks, cannot be read and are not ours.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let marked = environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes());
        // A server may write its title over its environment, as Redis does.
        let inside = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if marked || inside {
            pids.push(Pid::from_raw(pid));
        }
    }
    Ok(pids)
}

/// Ends every process of the stack, politely first; how many there were.
pub(super) fn end_all(folder: &Path) -> anyhow::Result<usize> {
    let all = of_stack(folder)?;
    for (signal, patience) in
        [(Signal::SIGTERM, Duration::from_secs(3)), (Signal::SIGKILL, Duration::from_secs(5))]
    {
        let deadline = Instant::now() + patience;
        loop {
            let left = of_stack(folder)?;
            if left.is_empty() {
                return Ok(all.len());
            }
            // A signal to a process that has just ended is no failure.
            for pid in left {
                kill(pid, signal).ok();
            }
            if Instant::now() > deadline {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
    bail!("these processes of the stack do not end: {:?}", of_stack(folder)?)
}
