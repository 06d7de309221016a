//! The crash matrix drives a model of the workflow. Here the definition of the stack's state machine runs, over made-up
//! outcomes of its tasks, and takes the model's path for every combination of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeMap;

use aws_sdk_sfn::types::HistoryEvent;
use custody_core::{
    clock::Timestamp,
    receipt::{ArchiveReceipt, FinalRecord, MetadataReceipt},
    testing::samples,
};
use custody_e2e::{Stack, operate};
use custody_simulation::workflow_model::{self as model, Outcome};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

/// The state machine that the test makes from the definition of the stack's.
const NAME: &str = "workflow-under-test";

/// What one state came to in one combination: for the model, and as the emulator is told.
#[derive(Clone, Debug)]
struct Choice {
    state: &'static str,
    outcome: Outcome,
    response: Response,
}

/// How a task answers.
#[derive(Clone, Debug)]
enum Response {
    Returns(Value),
    Throws(&'static str),
    /// The state is a choice: what it came to lies in the answer of the task before it.
    Follows,
}

/// The ways in which a state may end. Empty where there is one only.
fn ways(state: &'static str) -> Vec<Choice> {
    let way = |outcome, response| Choice { state, outcome, response };
    let task = |returned: Value, transient| {
        vec![
            way(Outcome::Ok, Response::Returns(json!({ "Payload": returned }))),
            way(Outcome::Transient, Response::Throws(transient)),
            way(Outcome::Permanent, Response::Throws("Internal")),
        ]
    };
    let choice = || vec![way(Outcome::Ok, Response::Follows), way(Outcome::Unpublished, Response::Follows)];
    match state {
        model::ANNOUNCE_RECEIPT
        | model::ANNOUNCE_ARCHIVED
        | model::ANNOUNCE_METADATA_STORED
        | model::ANNOUNCE_COMPLETION => vec![
            way(Outcome::Ok, Response::Returns(json!({ "MessageId": "1" }))),
            way(Outcome::Transient, Response::Throws("SNS.ThrottledException")),
            way(Outcome::Unpublished, Response::Throws("SNS.AuthorizationErrorException")),
        ],
        model::ARCHIVE_PAYLOAD => task(archived(), "CacheUnavailable"),
        model::STORE_METADATA => task(stored(), "TableUnavailable"),
        model::AGGREGATE_RECORD => task(completed(true), "TableUnavailable"),
        model::CLOSE_RECORD => vec![
            way(Outcome::Ok, Response::Returns(json!({}))),
            // The record is gone, or at a later attempt: it is not this execution's to close, and all is well.
            way(Outcome::Ok, Response::Throws("DynamoDB.ConditionalCheckFailedException")),
            way(Outcome::Transient, Response::Throws("DynamoDB.InternalServerErrorException")),
            way(Outcome::Permanent, Response::Throws("DynamoDB.AccessDeniedException")),
        ],
        model::HANDLE_FAILURE => task(json!({ "finished": true }), "FailedStoreUnavailable"),
        model::IS_EVERYTHING_ANNOUNCED | model::WAS_FAILURE_HANDLED => choice(),
        _ => Vec::new(),
    }
}

fn archived() -> Value {
    let message = samples::message(b"payload");
    let receipt = json!({
        "S3Reference": {"bucket": "archive", "key": message.message_id.archive_key()},
        "sha256": message.payload.sha256,
        "size": message.payload.size_bytes,
        "archivedAt": time(),
    });
    serde_json::from_value::<ArchiveReceipt>(receipt.clone()).unwrap();
    receipt
}

fn stored() -> Value {
    let receipt = json!({
        "metaDataReference": {"dynamoDbTableName": "records", "primaryKey": samples::record_id()},
        "storedAt": time(),
    });
    serde_json::from_value::<MetadataReceipt>(receipt.clone()).unwrap();
    receipt
}

fn completed(unlinked: bool) -> Value {
    let record =
        json!({"message": samples::message(b"payload"), "completedAt": time(), "unlinked": unlinked});
    serde_json::from_value::<FinalRecord>(record.clone()).unwrap();
    record
}

fn time() -> Timestamp {
    Timestamp::parse("2026-01-31T09:30:00Z").unwrap()
}

/// Every combination: each way of each state that an execution reaches.
fn combinations() -> Vec<Vec<Choice>> {
    let (mut done, mut open) = (Vec::new(), vec![Vec::<Choice>::new()]);
    while let Some(chosen) = open.pop() {
        let path = path_of(&chosen);
        let mut states = path.branches.iter().flatten().chain(&path.after).copied();
        let is_given = |state: &str| chosen.iter().any(|choice| choice.state == state);
        let undecided = states.find(|state| !is_given(state) && !ways_of(state, &path.after).is_empty());
        match undecided {
            None => done.push(chosen),
            Some(state) => {
                let ways = ways_of(state, &path.after).into_iter();
                open.extend(ways.map(|way| [chosen.clone(), vec![way]].concat()));
            }
        }
    }
    done
}

/// The ways of a state on a path. An announcement that is missing decides a choice by itself.
fn ways_of(state: &'static str, after: &[&'static str]) -> Vec<Choice> {
    let is_decided = state == model::IS_EVERYTHING_ANNOUNCED && !after.contains(&model::ANNOUNCE_COMPLETION);
    if is_decided { Vec::new() } else { ways(state) }
}

fn path_of(chosen: &[Choice]) -> model::Path {
    let outcomes: Vec<_> = chosen.iter().map(|choice| (choice.state, choice.outcome)).collect();
    model::path(&outcomes)
}

/// How the emulator is told of a combination: an answer by state, for every try.
fn responses(chosen: &[Choice]) -> BTreeMap<&'static str, Value> {
    let came_to = |state| chosen.iter().find(|choice| choice.state == state).map(|choice| choice.outcome);
    let answer = |choice: &Choice| match &choice.response {
        Response::Throws(error) => Some(json!({"Throw": {"Error": error, "Cause": "made up"}})),
        Response::Returns(returned) => Some(json!({ "Return": match choice.state {
            model::AGGREGATE_RECORD if came_to(model::IS_EVERYTHING_ANNOUNCED) == Some(Outcome::Unpublished) =>
                json!({"Payload": completed(false)}),
            model::HANDLE_FAILURE if came_to(model::WAS_FAILURE_HANDLED) == Some(Outcome::Unpublished) =>
                json!({"Payload": {"finished": false}}),
            _ => returned.clone(),
        }})),
        Response::Follows => None,
    };
    chosen.iter().filter_map(|choice| Some((choice.state, answer(choice)?))).collect()
}

/// The tasks are real again, whatever becomes of the test.
struct MadeUp;

impl MadeUp {
    fn tell(configuration: &Value) -> Self {
        operate("workflow_outcomes.py", &["0"], &configuration.to_string()).unwrap();
        Self
    }
}

impl Drop for MadeUp {
    fn drop(&mut self) {
        operate("workflow_outcomes.py", &["0.1"], "{}").expect("the tasks are real again");
    }
}

/// The names of the states that were entered, in their order, and how many tries of tasks failed.
fn states_of(history: &[HistoryEvent]) -> (Vec<String>, usize) {
    let entered = history.iter().filter_map(|event| event.state_entered_event_details());
    let failed = history.iter().filter(|event| event.r#type().as_str() == "TaskFailed").count();
    (entered.map(|details| details.name().to_owned()).collect(), failed)
}

/// How many tries of tasks fail in a combination, by the retries of the definition.
fn failed_tries(definition: &Value, chosen: &[Choice]) -> usize {
    let tries = |choice: &Choice| match (&choice.response, choice.outcome) {
        (Response::Throws(error), Outcome::Transient) => 1 + retries(definition, choice.state, error),
        (Response::Throws(error), _) => {
            assert_eq!(retries(definition, choice.state, error), 0, "{} retries {error}", choice.state);
            1
        }
        _ => 0,
    };
    chosen.iter().map(tries).sum()
}

/// How often the definition tries a state again after an error.
fn retries(definition: &Value, state: &str, error: &str) -> usize {
    let branches = definition["States"]["Process record"]["Branches"].as_array().unwrap();
    let mut scopes = branches.iter().chain([definition]);
    let state = scopes.find_map(|scope| scope["States"].get(state)).unwrap();
    let names = |retry: &Value| retry["ErrorEquals"].as_array().unwrap().contains(&error.into());
    let retry = state["Retry"].as_array().unwrap().iter().find(|retry| names(retry));
    retry.map_or(0, |retry| usize::try_from(retry["MaxAttempts"].as_u64().unwrap()).unwrap())
}

#[tokio::test]
async fn the_model_of_the_crash_matrix_is_the_state_machine() {
    let stack = Stack::under_test().await;
    let workflows = stack.deployment.aws.step_functions();
    let arn = stack.deployment.output("StateMachineArn").unwrap();
    let deployed = workflows.describe_state_machine().state_machine_arn(arn).send().await.unwrap();
    let definition: Value = serde_json::from_str(deployed.definition()).unwrap();
    let created = workflows.create_state_machine().name(NAME).role_arn(deployed.role_arn());
    let machine = created.definition(deployed.definition()).send().await.unwrap().state_machine_arn;

    let all = combinations();
    let mut cases = serde_json::Map::new();
    let mut answers = serde_json::Map::new();
    for (number, chosen) in all.iter().enumerate() {
        let mut case = serde_json::Map::new();
        for (state, answer) in responses(chosen) {
            let name = format!("{number} {state}");
            case.insert(state.to_owned(), name.as_str().into());
            answers.insert(name, json!({ "0-99": answer }));
        }
        cases.insert(number.to_string(), case.into());
    }
    let configuration = json!({"StateMachines": {NAME: {"TestCases": cases}}, "MockedResponses": answers});
    let made_up = MadeUp::tell(&configuration);

    let input = serde_json::to_string(&samples::message(b"payload")).unwrap();
    let run = async |number: usize| {
        let started =
            workflows.start_execution().state_machine_arn(format!("{machine}#{number}")).input(&input);
        let execution = started.send().await.unwrap().execution_arn;
        stack
            .eventually("the execution ends", async || {
                let described =
                    workflows.describe_execution().execution_arn(&execution).send().await.unwrap();
                (described.status().as_str() != "RUNNING").then_some(())
            })
            .await;
        let history = workflows.get_execution_history().execution_arn(&execution).max_results(1000);
        states_of(history.send().await.unwrap().events())
    };
    let ran: Vec<_> = stream::iter(0..all.len())
        .map(|number| async move { (number, run(number).await) })
        .buffer_unordered(16)
        .collect()
        .await;
    drop(made_up);
    workflows.delete_state_machine().state_machine_arn(machine).send().await.unwrap();

    for (number, (entered, failed)) in ran {
        let chosen = &all[number];
        let path = path_of(chosen);
        let of = |known: &[&str]| -> Vec<&str> {
            entered.iter().map(String::as_str).filter(|state| known.contains(state)).collect()
        };
        for branch in &path.branches {
            assert_eq!(&of(branch), branch, "{chosen:#?}");
        }
        assert_eq!(of(&path.after), path.after, "{chosen:#?}");
        let begins = ["Number the attempt", "Process record"];
        let expected = begins.len() + path.branches.iter().map(Vec::len).sum::<usize>() + path.after.len();
        assert_eq!(entered.len(), expected, "other states besides: {entered:?}\n{chosen:#?}");
        assert_eq!(failed, failed_tries(&definition, chosen), "{chosen:#?}");
    }
    eprintln!("{} combinations", all.len());
    assert!(all.len() > 100, "each state has several ways");
}
