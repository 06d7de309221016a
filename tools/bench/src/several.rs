//! Measures several concurrent requests in one process of ingest, as on Lambda Managed Instances.

use std::{path::Path, process::Stdio};

use crate::{
    deployment::Deployment,
    figures::{ConcurrentRequestFigures, Quantiles},
    function::{Function, Program},
    runtime_api::{Invocation, Response},
    workload::{self, EVENT_SIZES, Event, Form},
};

/// The numbers of concurrent requests to measure.
pub const CONCURRENCY: [u32; 3] = [1, 4, 16];

/// In a mix of sizes, one of this many requests is large.
const REQUESTS_PER_LARGE_REQUEST: usize = 8;

/// Measures one process with `concurrency` requests at once: requests of one size, small requests alone, and small
/// requests among large ones.
pub fn measure(
    concurrency: u32,
    records: usize,
    deployment: &Deployment,
    folder: &Path,
) -> anyhow::Result<Vec<ConcurrentRequestFigures>> {
    let [small, middle, .., large] = EVENT_SIZES.map(|(size, _)| workload::ingest_event(size, Form::Base64));
    let mixed: Vec<&Event> = (0..records)
        .map(|index| if index % REQUESTS_PER_LARGE_REQUEST == 0 { &large } else { &small })
        .collect();
    let all = |event| vec![event; records];
    let variables = [("AWS_LAMBDA_MAX_CONCURRENCY", concurrency.to_string())];
    let program = Program::function("ingest", folder);
    let mut redis = deployment.redis()?;
    let mut figures = Vec::new();
    for (requests, events, counted) in [
        ("256 KB", all(&middle), &middle),
        ("4 KB", all(&small), &small),
        ("4 KB, every eighth 6 MB", mixed, &small),
    ] {
        let mut function = Function::start_with(&program, deployment, &variables, Stdio::inherit())?;
        let invocations: Vec<_> = events.iter().map(|event| invocation(event)).collect();
        // The first requests make the connections and are not counted.
        let warm_up = invocations.len().min(2 * concurrency as usize);
        function.invoke_all(&invocations[..warm_up])?;
        let responses = function.invoke_all(&invocations)?;
        redis.clear()?;
        let is_counted = |(event, _): &(&&Event, &Response)| event.text.len() == counted.text.len();
        let counted: Vec<_> = events.iter().zip(&responses).filter(is_counted).collect();
        let acks: Vec<_> = counted.iter().map(|(_, response)| response.posted - response.sent).collect();
        let begun = responses.iter().map(|response| response.begun).min();
        let ended = responses.iter().map(|response| response.posted).max();
        let elapsed = begun.zip(ended).map(|(begun, ended)| ended - begun).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a count of records")]
        let records_per_second = responses.len() as f64 / elapsed.as_secs_f64();
        figures.push(ConcurrentRequestFigures {
            concurrency,
            requests: requests.to_owned(),
            records: counted.len(),
            ack_us: Quantiles::of(&acks),
            records_per_second,
            peak_memory_bytes: function.peak_memory_bytes()?,
        });
    }
    Ok(figures)
}

fn invocation(event: &Event) -> Invocation<'_> {
    Invocation { event: &event.text, payload_bytes: 0, acceptance_bytes: 0 }
}
