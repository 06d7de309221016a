//! Reads what the kernel reports about a process.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, bail};

/// Returns the CPU time of all threads of a process so far, in user and kernel mode.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("list the threads of a function")? {
        // A thread may have ended since it was listed.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanos += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(nanos))
}

/// Returns the peak resident memory of a process so far, in bytes.
pub fn peak_memory_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read a function's memory")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel reports no VmHWM")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("read VmHWM")?;
    Ok(kibibytes * 1024)
}

/// Describes the machine in one line: processor, whether it has SHA-256 instructions, cores, and the kernel's version.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut version = kernel.trim().split('.');
    let (major, minor) = (version.next().unwrap_or_default(), version.next().unwrap_or_default());
    let sha = match (has_sha_instructions(), sha_hiding_preload().is_some()) {
        (true, _) => "instructions for SHA-256",
        (false, false) => "no instructions for SHA-256",
        (false, true) => "instructions for SHA-256 hidden",
    };
    format!("{model}, {sha}, {cores} cores, Linux {major}.{minor}")
}

/// Returns whether programs on this machine find SHA-256 instructions.
pub fn has_sha_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("sha");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

const PRELOAD: &str = "LD_PRELOAD";

/// The name of the library that hides the SHA-256 instructions.
const NO_SHA: &str = "custody_no_sha";

/// Returns the value of `LD_PRELOAD` if it contains the library that hides the SHA-256 instructions. The library must
/// then be preloaded into every measured program as well.
#[expect(clippy::disallowed_methods, reason = "the loader's own variable")]
pub fn sha_hiding_preload() -> Option<String> {
    std::env::var(PRELOAD).ok().filter(|libraries| libraries.contains(NO_SHA))
}

/// Replaces this process by one that finds no SHA-256 instructions: it starts this program again with a preloaded
/// library, which child processes inherit. Returns `Ok` if there is nothing to hide: on a processor without the
/// instructions, and in the process that was started again.
pub fn hide_sha_instructions(library: &Path) -> anyhow::Result<()> {
    if !has_sha_instructions() {
        return Ok(());
    }
    if sha_hiding_preload().is_some() {
        bail!(
            "the instructions for SHA-256 cannot be hidden here: processor, hypervisor or kernel do not let CPUID fault \
             (`cpuid_fault` in /proc/cpuinfo)"
        );
    }
    let library = library.canonicalize().with_context(|| format!("find {}", library.display()))?;
    let itself = std::env::current_exe().context("find this program")?;
    let error = Command::new(itself).args(std::env::args_os().skip(1)).env(PRELOAD, library).exec();
    Err(error).context("start again without instructions for SHA-256")
}
