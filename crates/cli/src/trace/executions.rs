//! The executions of a record, by attempt and start.

use anyhow::Context as _;
use aws_sdk_sfn::{Client, error::SdkError, primitives::DateTime};
use custody_aws::{StateMachine, WorkflowType};
use custody_core::{attempt::Attempt, clock::Timestamp, record_id::RecordId};
use serde::Serialize;

use super::KnownAttempts;
use crate::deployment::Deployment;

/// The executions of a record, as Step Functions reports them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Executions {
    /// Whether the state machine keeps a history of its executions: `EXPRESS` keeps none.
    pub(super) history: bool,
    pub(super) list: Vec<Execution>,
}

/// One execution.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Execution {
    pub(super) attempt: u32,
    pub(super) start: u32,
    pub(super) status: String,
    pub(super) error: Option<String>,
    started_at: Option<Timestamp>,
    stopped_at: Option<Timestamp>,
    pub(super) states: Vec<State>,
}

/// A state that an execution entered, and how long it took.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    pub(super) name: String,
    pub(super) entered_at: Timestamp,
    pub(super) duration_ms: Option<u64>,
}

/// Finds the executions of all attempts and starts. It asks for each attempt and start that is known, and then for
/// further ones until one does not exist. Step Functions deletes an execution after 90 days, so a known execution may
/// be missing.
pub(super) async fn find(
    deployment: &Deployment,
    id: RecordId,
    known: KnownAttempts,
) -> anyhow::Result<Executions> {
    if deployment.workflow_type()? == WorkflowType::Express {
        return Ok(Executions { history: false, list: Vec::new() });
    }
    let (client, machine) = (deployment.aws.step_functions(), deployment.state_machine()?);
    let mut list = Vec::new();
    for number in 1.. {
        let found = of_attempt(&client, &machine, Attempt::new(id, number), known.starts_of(number)).await?;
        if found.is_empty() && number > known.count {
            break;
        }
        list.extend(found);
    }
    Ok(Executions { history: true, list })
}

async fn of_attempt(
    client: &Client,
    machine: &StateMachine,
    attempt: Attempt,
    known_starts: u32,
) -> anyhow::Result<Vec<Execution>> {
    let mut found = Vec::new();
    for start in 1.. {
        match describe(client, machine, attempt, start).await? {
            Some(execution) => found.push(execution),
            None if start > known_starts => break,
            None => {}
        }
    }
    Ok(found)
}

async fn describe(
    client: &Client,
    machine: &StateMachine,
    attempt: Attempt,
    start: u32,
) -> anyhow::Result<Option<Execution>> {
    let arn = machine.execution_arn(attempt, start);
    let described = match client.describe_execution().execution_arn(&arn).send().await {
        Ok(described) => described,
        Err(SdkError::ServiceError(context)) if context.err().is_execution_does_not_exist() => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("describe execution {arn}")),
    };
    Ok(Some(Execution {
        attempt: attempt.number(),
        start,
        status: described.status().as_str().to_owned(),
        error: described.error().map(str::to_owned),
        started_at: time(Some(described.start_date())),
        stopped_at: time(described.stop_date()),
        states: states(client, &arn).await?,
    }))
}

fn time(time: Option<&DateTime>) -> Option<Timestamp> {
    time.and_then(|time| time.to_millis().ok()).and_then(Timestamp::from_unix_ms)
}

async fn states(client: &Client, arn: &str) -> anyhow::Result<Vec<State>> {
    let mut states: Vec<State> = Vec::new();
    let history = client.get_execution_history().execution_arn(arn).include_execution_data(false);
    let mut pages = history.into_paginator().send();
    while let Some(page) = pages.next().await {
        for event in page.with_context(|| format!("read the history of {arn}"))?.events() {
            let Some(at) = time(Some(event.timestamp())) else { continue };
            if let Some(entered) = event.state_entered_event_details() {
                states.push(State { name: entered.name().to_owned(), entered_at: at, duration_ms: None });
            }
            if let Some(exited) = event.state_exited_event_details()
                && let Some(state) =
                    states.iter_mut().rev().find(|s| s.name == exited.name() && s.duration_ms.is_none())
            {
                state.duration_ms = u64::try_from(at.since(state.entered_at).as_millis()).ok();
            }
        }
    }
    Ok(states)
}
