//! What the kernel says of a process.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// The time that all threads of a process have spent on a CPU, in user and kernel mode.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("list the threads of a function")? {
        // A thread may have ended since it was listed.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanos += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(nanos))
}

/// The most memory that a process has had resident so far, in bytes.
pub fn peak_memory_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read a function's memory")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel tells no VmHWM")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("read VmHWM")?;
    Ok(kibibytes * 1024)
}

/// The machine in a line: processor, whether it has instructions for SHA-256, cores, and the kernel's version.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut version = kernel.trim().split('.');
    let (major, minor) = (version.next().unwrap_or_default(), version.next().unwrap_or_default());
    let sha = if lists_sha_instructions(&cpu) { "yes" } else { "no" };
    format!("{model}, sha_ni {sha}, {cores} cores, Linux {major}.{minor}")
}

/// Whether the processor has instructions for SHA-256.
pub fn has_sha_instructions() -> bool {
    lists_sha_instructions(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

/// Whether `/proc/cpuinfo` lists the instructions: `sha_ni` on x86, `sha2` on ARM.
fn lists_sha_instructions(cpu_info: &str) -> bool {
    let flags = cpu_info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| matches!(flag, "sha_ni" | "sha2")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_for_sha_256_are_found_by_their_name() {
        assert!(lists_sha_instructions("processor : 0\nflags\t: fpu sha_ni vaes\n"));
        assert!(lists_sha_instructions("Features : fp asimd sha1 sha2\n"));
        assert!(!lists_sha_instructions("flags : fpu sha_nix\n"));
        assert!(!lists_sha_instructions(""));
    }
}
