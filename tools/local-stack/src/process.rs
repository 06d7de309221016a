//! Starts the processes of a stack in the background, and finds them again by a variable in their environment or by
//! their working folder.

use std::{
    ffi::OsStr,
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
use procfs::process::Process;

/// The environment variable that marks a process as part of a stack. Its value is the stack's folder. Child processes
/// inherit it.
const STACK_VARIABLE: &str = "CUSTODY_STACK";

/// Starts a process that outlives this program. Its environment contains only what `command` sets, folders for
/// temporary files and for `HOME`, and the variable that marks it. Its output goes to `logs/<name>.log`.
pub(crate) fn start(folder: &Path, name: &str, command: &mut Command) -> anyhow::Result<()> {
    let (logs, temporary) = (folder.join("logs"), folder.join("tmp"));
    fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    fs::create_dir_all(&temporary).with_context(|| format!("make {}", temporary.display()))?;
    let log =
        File::create(logs.join(format!("{name}.log"))).with_context(|| format!("write the log of {name}"))?;
    let mut child = command
        .env(STACK_VARIABLE, folder)
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
    // Waits a moment, so that an immediate failure (a bad option, a missing library) shows.
    thread::sleep(Duration::from_millis(50));
    if let Some(status) = child.try_wait()? {
        bail!("{name} ended at once with {status}; see {}", logs.join(format!("{name}.log")).display());
    }
    Ok(())
}

fn pid_file(folder: &Path, name: &str) -> PathBuf {
    folder.join("run").join(format!("{name}.pid"))
}

/// Sends a signal to one process of the stack, by the name under which it was started. After `SIGKILL`, returns only
/// when the process has ended.
pub(crate) fn signal(folder: &Path, name: &str, signal: Signal) -> anyhow::Result<()> {
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

/// Whether a process runs no more. A zombie counts as ended once its other threads are gone: its first thread may end while
/// others still hold its ports.
fn has_ended(pid: Pid) -> bool {
    let Ok(process) = Process::new(pid.as_raw()) else { return true };
    let is_zombie = process.stat().map_or(true, |stat| stat.state == 'Z');
    is_zombie && process.tasks().map_or(0, Iterator::count) <= 1
}

/// Ends MiniStack with `SIGTERM`, so that it saves its state. MiniStack waits for its running requests, also for those
/// of functions, and the functions wait for MiniStack in turn. Therefore the functions are killed meanwhile.
pub(crate) fn end_emulator(folder: &Path) -> anyhow::Result<()> {
    let pid = pid_of(folder, "ministack")?;
    kill(pid, Signal::SIGTERM).context("end MiniStack")?;
    let politely = wait_until("the end of MiniStack", Duration::from_mins(3), || {
        kill_functions(folder).is_ok() && has_ended(pid)
    });
    if politely.is_ok() {
        return Ok(());
    }
    // MiniStack saves its state first, and then waits for threads that may never end.
    kill(pid, Signal::SIGKILL).context("kill MiniStack")?;
    wait_until("the end of MiniStack", Duration::from_secs(10), || has_ended(pid))
}

/// Kills every running function in the middle of its work. Returns how many there were.
pub(crate) fn kill_functions(folder: &Path) -> anyhow::Result<usize> {
    let mut killed = 0;
    for pid in processes_of_stack(folder)? {
        let program = Process::new(pid.as_raw()).and_then(|process| process.exe());
        let is_function = program.is_ok_and(|program| program.ends_with("bootstrap"));
        if is_function && kill(pid, Signal::SIGKILL).is_ok() {
            killed += 1;
        }
    }
    Ok(killed)
}

/// Waits until something listens on a loopback port.
pub(crate) fn wait_for_port(port: u16, what: &str, timeout: Duration) -> anyhow::Result<()> {
    wait_until(&format!("{what} on port {port}"), timeout, || listens(port))
}

/// Waits until a condition holds.
pub(crate) fn wait_until(what: &str, timeout: Duration, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    while !holds() {
        if Instant::now() > deadline {
            bail!("{what} did not come up within {} s; see the stack's logs folder", timeout.as_secs());
        }
        thread::sleep(Duration::from_millis(30));
    }
    Ok(())
}

/// Returns whether something listens on a loopback port.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(500)).is_ok()
}

/// Returns the processes of the stack in `folder`. A shell whose working folder is in there counts as one of them.
pub(crate) fn processes_of_stack(folder: &Path) -> anyhow::Result<Vec<Pid>> {
    let is_of_stack = |process: &Process| {
        // Processes of other users, and those that end meanwhile, cannot be read and belong to no stack of this user.
        let environment = process.environ().unwrap_or_default();
        let is_marked =
            environment.get(OsStr::new(STACK_VARIABLE)).is_some_and(|mark| mark == folder.as_os_str());
        // A server may overwrite its environment with its title, as Redis does. Its working folder still identifies it.
        is_marked || process.cwd().is_ok_and(|cwd| cwd.starts_with(folder))
    };
    let processes = procfs::process::all_processes().context("read /proc")?;
    Ok(processes.flatten().filter(is_of_stack).map(|process| Pid::from_raw(process.pid())).collect())
}

/// Ends every process of the stack, with `SIGTERM` first and with `SIGKILL` after three seconds. Returns how many there
/// were.
pub(crate) fn end_all(folder: &Path) -> anyhow::Result<usize> {
    let all = processes_of_stack(folder)?;
    for (signal, patience) in
        [(Signal::SIGTERM, Duration::from_secs(3)), (Signal::SIGKILL, Duration::from_secs(5))]
    {
        let deadline = Instant::now() + patience;
        loop {
            let left = processes_of_stack(folder)?;
            if left.is_empty() {
                return Ok(all.len());
            }
            // An error is ignored: the process may have ended before the signal.
            for pid in left {
                kill(pid, signal).ok();
            }
            if Instant::now() > deadline {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
    bail!("these processes of the stack do not end: {:?}", processes_of_stack(folder)?)
}
