//! Runs the whole benchmark: start times, records one after the other, late executions, several requests in one
//! process, records side by side.

use std::time::Duration;

use custody_bench::{
    builds::Builds,
    case::Case,
    deployment::Deployment,
    figures::{Figures, ThroughputFigures},
    function::Program,
    goals, init, latency, primitives, process, several, start_delay, throughput,
    workload::{EVENT_SIZES, Form, PAYLOAD_SIZES},
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::Arguments;

/// The approximate number of bytes that each side of a case moves.
const CASE_BYTES: usize = 1_000_000_000;

/// Returns the number of records to measure at a size: enough for a 99th percentile, but not more than a person would
/// wait for.
fn records(size: usize, brief: bool) -> usize {
    if brief { 3 } else { (CASE_BYTES / size).clamp(100, 1000) }
}

/// Returns the number of records to measure with a late answer: enough for a median. One record of each pair takes the
/// time of the late answer.
fn delayed_records(brief: bool) -> usize {
    if brief { 3 } else { 200 }
}

/// The forms of a payload, apart from plain base64.
const FORMS: [Form; 6] =
    [Form::Keyed, Form::BinaryCloudEvent, Form::ContentDigest, Form::Text, Form::EscapedText, Form::Json];

/// The name of the measurement with late executions, for `--only`.
const START_DELAY: &str = "start delay";

/// The name of the measurement of several requests in one process, for `--only`.
const SEVERAL: &str = "several requests";

/// Runs all measurements that the arguments select. If there are two builds, their programs take turns.
pub(crate) fn measure(arguments: &Arguments, builds: Option<&Builds>) -> anyhow::Result<Figures> {
    let brief = &arguments.brief;
    let binaries = &builds.map_or_else(|| arguments.binaries.clone(), Builds::current);
    let before = builds.map(Builds::before);
    let deployment = Deployment::start(arguments.latencies())?;
    let cases = cases(arguments);
    let (processes, time) = if *brief {
        (&throughput::PROCESSES[..1], Duration::from_millis(200))
    } else {
        (&throughput::PROCESSES[..], Duration::from_secs(3))
    };
    let has_curves = !arguments.targets_only && arguments.only.is_none();
    let curves = if has_curves { &[EVENT_SIZES[1], EVENT_SIZES[2], EVENT_SIZES[4]][..] } else { &[][..] };
    let delays = if arguments.wants(START_DELAY) { &[EVENT_SIZES[1], EVENT_SIZES[4]][..] } else { &[][..] };

    let at_once = if arguments.wants(SEVERAL) { &several::CONCURRENCY[..] } else { &[][..] };
    let shards = usize::from(!curves.is_empty());
    let steps = 1 + cases.len() + delays.len() + at_once.len() + curves.len() * processes.len() * 2 + shards;
    let progress = ProgressBar::new(steps as u64)
        .with_style(ProgressStyle::with_template("  {bar:30} {pos}/{len} {msg} ({elapsed})")?);
    progress.set_message("start times");
    progress.tick();
    let mut figures = start_figures(arguments, &deployment)?;
    progress.inc(1);
    for case in &cases {
        progress.set_message(case.to_string());
        let records = records(case.size_bytes, *brief);
        figures.latency.push(latency::measure(case, records, &deployment, binaries, before.as_deref())?);
        progress.inc(1);
    }
    for (bytes, name) in delays {
        progress.set_message(format!("{START_DELAY} at {name}"));
        let records = delayed_records(*brief);
        figures.start_delay.push(start_delay::measure(*bytes, name, records, &deployment, binaries)?);
        progress.inc(1);
    }
    for &concurrency in at_once {
        progress.set_message(format!("{SEVERAL}, {concurrency} at once"));
        let records = if *brief { 20 } else { 800 };
        figures.several.extend(several::measure(concurrency, records, &deployment, binaries)?);
        progress.inc(1);
    }
    for (bytes, name) in curves {
        progress.set_message(format!("throughput at {name}"));
        let done = || progress.inc(1);
        let rates = throughput::measure(*bytes, name, processes, time, &deployment, binaries, done)?;
        figures.throughput.extend(rates);
    }
    if !curves.is_empty() {
        progress.set_message("throughput with two shards");
        figures.throughput.push(two_shards(arguments, time)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    figures.goals = goals::judge(&figures);
    Ok(figures)
}

/// Measures the start times and the libraries' speeds. The other figures are still to come.
fn start_figures(arguments: &Arguments, deployment: &Deployment) -> anyhow::Result<Figures> {
    let starts = if arguments.brief || arguments.only.is_some() { 1 } else { 20 };
    Ok(Figures {
        init: init::measure(&programs(arguments), starts, deployment)?,
        machine: process::machine(),
        has_sha_instructions: process::has_sha_instructions(),
        primitives: primitives::measure(arguments.python.as_deref())?,
        command: arguments.command_line(),
        latency: Vec::new(),
        start_delay: Vec::new(),
        several: Vec::new(),
        throughput: Vec::new(),
        goals: Vec::new(),
    })
}

/// Measures the throughput with two shards. The first cache is still running. It is idle now, but the new one has to share
/// the machine's cores with it.
fn two_shards(arguments: &Arguments, time: Duration) -> anyhow::Result<ThroughputFigures> {
    let [_, _, (bytes, name), ..] = EVENT_SIZES;
    let most = if arguments.brief { 1 } else { 8 };
    throughput::measure_two_shards(bytes, name, most, time, &arguments.binaries)
}

/// Returns the cases that the arguments select: the functions at all sizes.
fn cases(arguments: &Arguments) -> Vec<Case> {
    let mut cases: Vec<Case> = EVENT_SIZES.iter().map(|(bytes, name)| Case::ingest(*bytes, name)).collect();
    cases.extend(PAYLOAD_SIZES.iter().map(|(bytes, name)| Case::archive(*bytes, name)));
    for form in FORMS {
        let sizes = [EVENT_SIZES[1], EVENT_SIZES[4]];
        cases.extend(sizes.map(|(bytes, name)| Case::ingest_of(form, bytes, name)));
    }
    cases.extend([Case::metadata(), Case::aggregate(), Case::query(), Case::list()]);
    cases.retain(|case| arguments.wants(&case.to_string()));
    if !arguments.encoded_baseline {
        cases = cases.into_iter().map(Case::with_decoded_baseline).collect();
    }
    cases
}

/// Returns the programs whose start times are measured.
fn programs(arguments: &Arguments) -> Vec<Program> {
    let folder = &arguments.binaries;
    let functions = arguments.functions.iter().map(|name| Program::function(name, folder));
    functions
        .chain([Program::baseline("ingest", folder)])
        .chain(arguments.python.as_deref().map(Program::python_start))
        .collect()
}
