//! The processes of a stack: started in the background, found again by a mark in their environment or by the folder
//! they work in.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
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
    let pid = pid_file(folder, name);
    fs::create_dir_all(pid.parent().unwrap_or(folder)).context("make the folder of process ids")?;
    fs::write(&pid, child.id().to_string()).with_context(|| format!("write {}", pid.display()))?;
    // Gives an instant failure (a bad option, a missing library) the time to show.
    thread::sleep(Duration::from_millis(50));
    if let Some(status) = child.try_wait()? {
        bail!("{name} ended at once with {status}; see {}", logs.join(format!("{name}.log")).display());
    }
    Ok(())
}

fn pid_file(folder: &Path, name: &str) -> PathBuf {
    folder.join("run").join(format!("{name}.pid"))
}

/// Sends a signal to one process of the stack, by the name it was started under. What is killed has ended on return.
pub(super) fn signal(folder: &Path, name: &str, signal: Signal) -> anyhow::Result<()> {
    let pid = pid_of(folder, name)?;
    kill(pid, signal).with_context(|| format!("signal {name}"))?;
    if signal != Signal::SIGKILL {
        return Ok(());
    }
    wait_until(&format!("the end of {name}"), Duration::from_secs(10), || has_ended(pid))
}

fn pid_of(folder: &Path, name: &str) -> anyhow::Result<Pid> {
    let file = pid_file(folder, name);
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(Pid::from_raw(text.trim().parse().context("read a process id")?))
}

/// A child that its parent has not asked for yet is a process still, but runs no more. Its first thread may be gone while
/// others still hold its ports.
fn has_ended(pid: Pid) -> bool {
    let first_thread_ended =
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    first_thread_ended && threads <= 1
}

/// Ends MiniStack politely, so that it saves what it has. It waits for the requests it is at, and those for functions, which
/// wait for MiniStack in turn: so the functions are killed meanwhile.
pub(super) fn end_emulator(folder: &Path) -> anyhow::Result<()> {
    let pid = pid_of(folder, "ministack")?;
    kill(pid, Signal::SIGTERM).context("end MiniStack")?;
    let politely = wait_until("the end of MiniStack", Duration::from_mins(1), || {
        kill_functions(folder).is_ok() && has_ended(pid)
    });
    if politely.is_ok() {
        return Ok(());
    }
    // It saves first, and then waits for threads that may never end.
    kill(pid, Signal::SIGKILL).context("kill MiniStack")?;
    wait_until("the end of MiniStack", Duration::from_secs(10), || has_ended(pid))
}

/// Kills every function that runs, in the middle of whatever it does; how many there were.
pub(super) fn kill_functions(folder: &Path) -> anyhow::Result<usize> {
    let mut killed = 0;
    for pid in of_stack(folder)? {
        let is_function =
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("bootstrap"));
        if is_function && kill(pid, Signal::SIGKILL).is_ok() {
            killed += 1;
        }
    }
    Ok(killed)
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
