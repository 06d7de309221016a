//! `custody-bench`: measures, prints tables, and writes JSON and a plot. `cargo xtask bench` builds what it needs.
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use custody_bench::{
    deployment::Deployment,
    figures::Figures,
    function::Program,
    goals, init,
    latency::{self, Case},
    plot, process, table, throughput,
    workload::{EVENT_SIZES, PAYLOAD_SIZES},
};
use indicatif::{ProgressBar, ProgressStyle};

/// Measures the functions against a floor: what moving the bytes alone would cost.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Arguments {
    /// Write the figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw the figures into this file, as SVG.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// End with status 1 where a target is missed; the last line names it.
    #[arg(long)]
    goal: bool,
    /// A few records of each kind, to see that the harness works. The figures mean nothing.
    #[arg(long, conflicts_with = "goal")]
    brief: bool,
    /// Without the curve of throughput.
    #[arg(long)]
    targets_only: bool,
    /// Have the floor of ingest write only as many bytes as the decoded payload has, as if it were decoded for nothing.
    #[arg(long)]
    decoded_floor: bool,
    /// Only what is called so, such as `ingest at 6 MB` or `archive`; targets that need more count as not measured.
    #[arg(long)]
    only: Option<String>,
    /// The folder of the release binaries.
    #[arg(long, hide = true)]
    binaries: PathBuf,
    /// All functions.
    #[arg(long = "function", hide = true)]
    functions: Vec<String>,
    /// A Python interpreter with `boto3`.
    #[arg(long, hide = true)]
    python: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let figures = measure(&arguments)?;
    println!("{}", table::render(&figures));
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&figures)? + "\n";
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &arguments.svg {
        let picture = plot::draw(&figures).context("draw the plot")?;
        fs::write(file, picture).with_context(|| format!("write {}", file.display()))?;
    }
    if !arguments.goal {
        return Ok(ExitCode::SUCCESS);
    }
    let verdict = goals::verdict(&figures.goals);
    let (Ok(line) | Err(line)) = &verdict;
    println!("{line}");
    Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// About how many bytes each side of a case moves.
const CASE_BYTES: usize = 1_000_000_000;

/// How many records of a size are enough for a 99th percentile, and not more than anybody waits for.
fn records(size: usize, brief: bool) -> usize {
    if brief { 3 } else { (CASE_BYTES / size).clamp(100, 1000) }
}

fn measure(arguments: &Arguments) -> anyhow::Result<Figures> {
    let Arguments { brief, binaries, .. } = arguments;
    let deployment = Deployment::start()?;
    let mut cases: Vec<Case> = EVENT_SIZES.iter().map(|(bytes, name)| Case::ingest(*bytes, name)).collect();
    cases.extend(PAYLOAD_SIZES.iter().map(|(bytes, name)| Case::archive(*bytes, name)));
    cases.extend([EVENT_SIZES[1], EVENT_SIZES[4]].map(|(bytes, name)| Case::ingest_with_key(bytes, name)));
    cases.extend([Case::metadata(), Case::aggregate()]);
    cases.retain(|case| arguments.only.as_ref().is_none_or(|only| case.to_string().starts_with(only)));
    if arguments.decoded_floor {
        cases = cases.into_iter().map(Case::with_decoded_floor).collect();
    }
    let (processes, time) = if *brief {
        (&throughput::PROCESSES[..1], Duration::from_millis(200))
    } else {
        (&throughput::PROCESSES[..], Duration::from_secs(3))
    };
    let curves = if arguments.targets_only || arguments.only.is_some() {
        &[][..]
    } else {
        &[EVENT_SIZES[1], EVENT_SIZES[2], EVENT_SIZES[4]][..]
    };

    let steps = 1 + cases.len() + curves.len() * processes.len() * 2;
    let progress = ProgressBar::new(steps as u64)
        .with_style(ProgressStyle::with_template("  {bar:30} {pos}/{len} {msg} ({elapsed})")?);
    progress.set_message("start times");
    progress.tick();
    let mut programs: Vec<Program> =
        arguments.functions.iter().map(|name| Program::function(name, binaries)).collect();
    programs.push(Program::floor("ingest", binaries));
    if let Some(python) = &arguments.python {
        programs.push(Program::python_start(python));
    }
    let init =
        init::measure(&programs, if *brief || arguments.only.is_some() { 1 } else { 20 }, &deployment)?;
    progress.inc(1);

    let mut latency = Vec::new();
    for case in &cases {
        progress.set_message(case.to_string());
        latency.push(latency::measure(case, records(case.size_bytes(), *brief), &deployment, binaries)?);
        progress.inc(1);
    }
    let mut throughput = Vec::new();
    for (bytes, name) in curves {
        progress.set_message(format!("throughput at {name}"));
        let done = || progress.inc(1);
        throughput.extend(throughput::measure(*bytes, name, processes, time, &deployment, binaries, done)?);
    }
    progress.finish_and_clear();
    let command = std::iter::once("cargo xtask bench".to_owned())
        .chain(arguments.brief.then(|| "--brief".to_owned()))
        .chain(arguments.targets_only.then(|| "--targets-only".to_owned()))
        .chain(arguments.decoded_floor.then(|| "--decoded-floor".to_owned()))
        .chain(arguments.only.iter().map(|only| format!("--only '{only}'")));
    let mut figures = Figures {
        machine: process::machine(),
        command: command.collect::<Vec<_>>().join(" "),
        init,
        latency,
        throughput,
        goals: Vec::new(),
    };
    figures.goals = goals::judge(&figures);
    Ok(figures)
}
