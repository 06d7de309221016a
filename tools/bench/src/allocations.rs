//! Counts the allocations per record with glibc's `libmemusage.so`, in unmodified binaries.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
};

use anyhow::Context as _;

use crate::{
    deployment::Deployment,
    figures::Allocations,
    function::{Function, Program},
    process,
};

/// The paths of the library on Debian.
const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/libmemusage.so", "/usr/lib/aarch64-linux-gnu/libmemusage.so"];

/// The two numbers of records to compare. The difference between a process with few records and one with more records
/// is the cost of the additional records.
const FEW: u32 = 3;
const MORE: u32 = 13;

/// Counts the allocations per record. `invoke` makes the program process one record. Returns `None` if the library is
/// missing.
pub fn per_record(
    program: &Program,
    deployment: &Deployment,
    mut invoke: impl FnMut(&mut Function) -> anyhow::Result<()>,
) -> anyhow::Result<Option<Allocations>> {
    let Some(library) = LIBRARIES.iter().find(|file| Path::new(file).exists()) else { return Ok(None) };
    let report = tempfile::NamedTempFile::new()?;
    let mut count = |records| -> anyhow::Result<Option<Totals>> {
        let libraries: Vec<_> =
            process::sha_hiding_preload().into_iter().chain([(*library).to_owned()]).collect();
        let preload = [("LD_PRELOAD", libraries.join(":"))];
        let stderr = Stdio::from(File::create(report.path())?);
        let mut function = Function::start_with(program, deployment, &preload, stderr)?;
        for _ in 0..records {
            invoke(&mut function)?;
        }
        function.end()?;
        let text = fs::read_to_string(report.path()).context("read a count of allocations")?;
        Ok(totals(&text))
    };
    let (Some(few), Some(more)) = (count(FEW)?, count(MORE)?) else { return Ok(None) };
    let records = f64::from(MORE - FEW);
    Ok(Some(Allocations {
        calls: (more.calls - few.calls) / records,
        bytes: (more.bytes - few.bytes) / records,
    }))
}

struct Totals {
    calls: f64,
    bytes: f64,
}

/// Parses the library's table, whose lines are ` malloc|  calls  bytes  failed`, with escape codes for colours in
/// between.
fn totals(text: &str) -> Option<Totals> {
    let mut totals = Totals { calls: 0.0, bytes: 0.0 };
    for name in ["malloc", "realloc", "calloc"] {
        let line = text.lines().find_map(|line| {
            let (label, rest) = line.split_once('|')?;
            label.trim_matches(|c: char| !c.is_ascii_lowercase()).ends_with(name).then_some(rest)
        })?;
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
        totals.calls += numbers.next()?;
        totals.bytes += numbers.next()?;
    }
    Some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_table_is_read() {
        let text = "\nMemory usage summary: heap total: 2100, heap peak: 5, stack peak: 0\n\
            \u{1b}[04;34m malloc|\u{1b}[0m        101           2000   \u{1b}[00;00m          0\u{1b}[00;00m\n\
            \u{1b}[04;34mrealloc|\u{1b}[0m          2             60   \u{1b}[00;00m          0\u{1b}[00;00m  (nomove:0, dec:0, free:0)\n\
            \u{1b}[04;34m calloc|\u{1b}[0m          1             40   \u{1b}[00;00m          0\u{1b}[00;00m\n";
        let totals = totals(text).unwrap();
        assert_eq!((totals.calls, totals.bytes), (104.0, 2100.0));
    }
}
