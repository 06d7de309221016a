//! Shows the progress of long steps and the output of commands.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs `work` and shows its title: a spinner on a terminal while it runs, and a line with the elapsed time at its end.
pub fn step<T>(title: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let started = Instant::now();
    let spinner = ProgressBar::new_spinner().with_message(title.to_owned());
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    let result = work();
    spinner.finish_and_clear();
    let mark = if result.is_ok() { "✓" } else { "✗" };
    println!("  {mark} {title} ({:.1} s)", started.elapsed().as_secs_f64());
    result
}

/// Runs a command and writes its output to `log`. If the command fails, the error contains the last lines of the log.
pub fn run_quietly(command: &mut Command, log: &Path) -> anyhow::Result<()> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let file = File::create(log).with_context(|| format!("write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = command.status().with_context(|| format!("run {}", name(command)))?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(25)..].join("\n");
    bail!("{} ended with {status}; the end of {}:\n{tail}", name(command), log.display())
}

/// Runs a command and shows its output.
pub fn run_visibly(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("run {}", name(command)))?;
    if status.success() {
        return Ok(());
    }
    bail!("{} ended with {status}", name(command))
}

fn name(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments: Vec<_> = command.get_args().take(3).map(|argument| argument.to_string_lossy()).collect();
    format!("`{program} {}`", arguments.join(" "))
}
