//! Checks the simulation's model of the workflow. A state machine with the definition of the stack's runs with mocked
//! outcomes of its tasks, and must take the path of the model for every combination of outcomes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeMap;

use aws_sdk_sfn::types::HistoryEvent;
use custody_core::{
    clock::Timestamp,
    receipt::{ArchiveReceipt, FinalRecord, MetadataReceipt},
    testing::samples,
};
use custody_e2e::{Stack, run_support_script};
use custody_simulation::workflow_model::{self as model, Outcome};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

/// The name of the state machine that the test creates from the definition of the stack's.
const NAME: &str = "workflow-under-test";

/// The outcome of one state in one combination, for the model and for the emulator.
#[derive(Clone, Debug)]
struct StateOutcome {
    state: &'static str,
    outcome: Outcome,
    response: Response,
}

/// The mocked answer of a task.
#[derive(Clone, Debug)]
enum Response {
    Returns(Value),
    Throws(&'static str),
    /// The state is a choice: its outcome follows from the answer of the task before it.
    DecidedByPreviousTask,
}

/// Returns the outcomes that a state may have. Empty if there is only one.
fn possible_outcomes(state: &'static str) -> Vec<StateOutcome> {
    let way = |outcome, response| StateOutcome { state, outcome, response };
    let task = |returned: Value, transient| {
        vec![
            way(Outcome::Ok, Response::Returns(json!({ "Payload": returned }))),
            way(Outcome::Transient, Response::Throws(transient)),
            way(Outcome::Permanent, Response::Throws("Internal")),
        ]
    };
    let choice = || {
        vec![
            way(Outcome::Ok, Response::DecidedByPreviousTask),
            way(Outcome::Unpublished, Response::DecidedByPreviousTask),
        ]
    };
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
            // The record is closed, or at a later attempt: this execution must not close it, and has succeeded.
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

/// Returns every combination: each outcome of each state that an execution reaches.
fn combinations() -> Vec<Vec<StateOutcome>> {
    let (mut done, mut open) = (Vec::new(), vec![Vec::<StateOutcome>::new()]);
    while let Some(chosen) = open.pop() {
        let path = path_of(&chosen);
        let mut states = path.branches.iter().flatten().chain(&path.after).copied();
        let is_given = |state: &str| chosen.iter().any(|choice| choice.state == state);
        let undecided = states
            .find(|state| !is_given(state) && !possible_outcomes_on_path(state, &path.after).is_empty());
        match undecided {
            None => done.push(chosen),
            Some(state) => {
                let possible_outcomes = possible_outcomes_on_path(state, &path.after).into_iter();
                open.extend(possible_outcomes.map(|way| [chosen.clone(), vec![way]].concat()));
            }
        }
    }
    done
}

/// Returns the outcomes that a state may have on a path. A missing announcement alone decides the choice `Is everything
/// announced?`.
fn possible_outcomes_on_path(state: &'static str, after: &[&'static str]) -> Vec<StateOutcome> {
    let is_decided = state == model::IS_EVERYTHING_ANNOUNCED && !after.contains(&model::ANNOUNCE_COMPLETION);
    if is_decided { Vec::new() } else { possible_outcomes(state) }
}

fn path_of(chosen: &[StateOutcome]) -> model::Path {
    let outcomes: Vec<_> = chosen.iter().map(|choice| (choice.state, choice.outcome)).collect();
    model::path(&outcomes)
}

/// Returns the mocked answers of a combination for the emulator: one answer for each state, for every try.
fn responses(chosen: &[StateOutcome]) -> BTreeMap<&'static str, Value> {
    let chosen_outcome =
        |state| chosen.iter().find(|choice| choice.state == state).map(|choice| choice.outcome);
    let answer = |choice: &StateOutcome| match &choice.response {
        Response::Throws(error) => Some(json!({"Throw": {"Error": error, "Cause": "made up"}})),
        Response::Returns(returned) => Some(json!({ "Return": match choice.state {
            model::AGGREGATE_RECORD if chosen_outcome(model::IS_EVERYTHING_ANNOUNCED) == Some(Outcome::Unpublished) =>
                json!({"Payload": completed(false)}),
            model::HANDLE_FAILURE if chosen_outcome(model::WAS_FAILURE_HANDLED) == Some(Outcome::Unpublished) =>
                json!({"Payload": {"finished": false}}),
            _ => returned.clone(),
        }})),
        Response::DecidedByPreviousTask => None,
    };
    chosen.iter().filter_map(|choice| Some((choice.state, answer(choice)?))).collect()
}

/// Mocked outcomes of the emulator's tasks. When this value is dropped, the tasks are real again, also after a failed
/// test.
struct MockedTasks;

impl MockedTasks {
    fn install(configuration: &Value) -> Self {
        run_support_script("workflow_outcomes.py", &["0"], &configuration.to_string()).unwrap();
        Self
    }
}

impl Drop for MockedTasks {
    fn drop(&mut self) {
        run_support_script("workflow_outcomes.py", &["0.1"], "{}").expect("the tasks are real again");
    }
}

/// Returns the names of the states that were entered, in their order, and the number of failed tries of tasks.
fn entered_states_and_failed_tries(history: &[HistoryEvent]) -> (Vec<String>, usize) {
    let entered = history.iter().filter_map(|event| event.state_entered_event_details());
    let failed = history.iter().filter(|event| event.r#type().as_str() == "TaskFailed").count();
    (entered.map(|details| details.name().to_owned()).collect(), failed)
}

/// Returns the number of tries of tasks that fail in a combination, by the retries of the definition.
fn failed_tries(definition: &Value, chosen: &[StateOutcome]) -> usize {
    let tries = |choice: &StateOutcome| match (&choice.response, choice.outcome) {
        (Response::Throws(error), Outcome::Transient) => 1 + retries(definition, choice.state, error),
        (Response::Throws(error), _) => {
            assert_eq!(retries(definition, choice.state, error), 0, "{} retries {error}", choice.state);
            1
        }
        _ => 0,
    };
    chosen.iter().map(tries).sum()
}

/// Returns the number of retries that the definition makes for a state after an error.
fn retries(definition: &Value, state: &str, error: &str) -> usize {
    let branches = definition["States"]["Process record"]["Branches"].as_array().unwrap();
    let mut scopes = branches.iter().chain([definition]);
    let state = scopes.find_map(|scope| scope["States"].get(state)).unwrap();
    let names = |retry: &Value| retry["ErrorEquals"].as_array().unwrap().contains(&error.into());
    let retry = state["Retry"].as_array().unwrap().iter().find(|retry| names(retry));
    retry.map_or(0, |retry| usize::try_from(retry["MaxAttempts"].as_u64().unwrap()).unwrap())
}

#[tokio::test]
async fn the_model_of_the_simulation_is_the_state_machine() {
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
    let mocked_tasks = MockedTasks::install(&configuration);

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
        entered_states_and_failed_tries(history.send().await.unwrap().events())
    };
    let ran: Vec<_> = stream::iter(0..all.len())
        .map(|number| async move { (number, run(number).await) })
        .buffer_unordered(16)
        .collect()
        .await;
    drop(mocked_tasks);
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
        assert_eq!(entered.len(), expected, "there are further states: {entered:?}\n{chosen:#?}");
        assert_eq!(failed, failed_tries(&definition, chosen), "{chosen:#?}");
    }
    eprintln!("{} combinations", all.len());
    assert!(all.len() > 100, "each state has several possible outcomes");
}
