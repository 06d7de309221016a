//! Checks that template, state machine and code agree: a name that one of them uses exists in the others.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use custody_aws::DUE_INDEX;
use custody_core::{
    error::{ErrorKind, ErrorName, TRANSIENT_PLATFORM_ERRORS},
    stages::{aggregate, archive, failure, metadata},
    stored_names,
};
use custody_lambda::{
    config::{
        self, AggregateConfig, ArchiveConfig, FailureConfig, IngestConfig, MetadataConfig, Reader,
        ReconcileConfig, RedriveConfig,
    },
    metrics, telemetry,
};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

type Names = BTreeSet<String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Returns the template. Its intrinsic functions lose their tags, which makes no difference, because only names are
/// compared here.
fn template() -> Yaml {
    let text = fs::read_to_string(root().join("template.yaml")).unwrap();
    YamlLoader::load_from_str(&text).unwrap().remove(0)
}

fn state_machine_text() -> String {
    fs::read_to_string(root().join("statemachine/audit_record.asl.json")).unwrap()
}

fn state_machine() -> Value {
    serde_json::from_str(&state_machine_text()).unwrap()
}

fn keys(yaml: &Yaml) -> Names {
    let Yaml::Hash(hash) = yaml else { return Names::new() };
    hash.keys().filter_map(Yaml::as_str).map(str::to_owned).collect()
}

/// Returns the functions of the template, by the folder of their code.
fn functions(template: &Yaml) -> BTreeMap<String, Yaml> {
    let Yaml::Hash(resources) = &template["Resources"] else { panic!("the template has resources") };
    let functions =
        resources.values().filter(|resource| resource["Type"].as_str() == Some("AWS::Serverless::Function"));
    functions
        .map(|function| {
            let code = function["Properties"]["CodeUri"].as_str().unwrap().trim_end_matches('/');
            (code.strip_prefix("functions/").unwrap().to_owned(), function.clone())
        })
        .collect()
}

fn folders_of_functions() -> Names {
    let entries = root().join("functions").read_dir().unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|e| e.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn every_function_folder_is_a_resource_and_every_function_has_a_folder() {
    let template = template();
    let functions = functions(&template);
    assert_eq!(functions.keys().cloned().collect::<Names>(), folders_of_functions());
    for (name, function) in functions {
        assert_eq!(function["Metadata"]["BuildProperties"]["Binary"].as_str(), Some(name.as_str()));
    }
}

/// Returns the keys that a function's configuration type reads.
fn keys_read(read: impl FnOnce(&mut Reader<'_>)) -> Names {
    let (_, keys) = config::from_lookup(&|_| Some("1".to_owned()), |reader| {
        telemetry::Settings::read(reader);
        read(reader);
    });
    keys.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_key_that_a_function_reads_is_set_for_it_and_nothing_more() {
    let template = template();
    let shared = keys(&template["Globals"]["Function"]["Environment"]["Variables"]);
    let read = BTreeMap::from([
        ("ingest", keys_read(|reader| drop(IngestConfig::read(reader)))),
        ("archive", keys_read(|reader| drop(ArchiveConfig::read(reader)))),
        ("metadata", keys_read(|reader| drop(MetadataConfig::read(reader)))),
        ("aggregate", keys_read(|reader| drop(AggregateConfig::read(reader)))),
        ("failure", keys_read(|reader| drop(FailureConfig::read(reader)))),
        ("reconcile", keys_read(|reader| drop(ReconcileConfig::read(reader)))),
        ("redrive", keys_read(|reader| drop(RedriveConfig::read(reader)))),
    ]);
    let functions = functions(&template);
    assert_eq!(functions.keys().map(String::as_str).collect::<Vec<_>>(), {
        let mut names: Vec<_> = read.keys().copied().collect();
        names.sort_unstable();
        names
    });
    for (name, function) in functions {
        let mut set: Names = &keys(&function["Properties"]["Environment"]["Variables"]) | &shared;
        // The C library reads this key, the function does not.
        set.remove(ALLOCATOR);
        assert_eq!(set, read[name.as_str()], "{name}");
    }
}

/// The environment variable that configures glibc's memory allocator.
const ALLOCATOR: &str = "GLIBC_TUNABLES";

#[test]
fn ingest_keeps_the_memory_of_an_event_as_it_does_in_the_benchmark() {
    let template = template();
    let ingest = &functions(&template)["ingest"]["Properties"]["Environment"]["Variables"];
    assert_eq!(ingest[ALLOCATOR].as_str(), Some(custody_core::INGEST_ALLOCATOR));
}

#[test]
fn every_substitution_is_used_and_every_use_is_substituted() {
    let template = template();
    let set = keys(&template["Resources"]["RecordStateMachine"]["Properties"]["DefinitionSubstitutions"]);
    let text = state_machine_text();
    let used: Names = text
        .split("${")
        .skip(1)
        .map(|rest| rest[..rest.find('}').expect("a substitution ends")].to_owned())
        .collect();
    assert_eq!(set, used);
}

/// Calls `visit` with every state of a machine and of the machines inside it, by name.
fn visit_states(machine: &Value, visit: &mut impl FnMut(&str, &Value)) {
    for (name, state) in machine["States"].as_object().unwrap() {
        visit(name, state);
        for branch in state["Branches"].as_array().into_iter().flatten() {
            visit_states(branch, visit);
        }
    }
}

fn texts(values: &Value) -> Vec<&str> {
    values.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn every_transition_leads_to_a_state_and_every_state_is_reached() {
    fn check(machine: &Value) {
        let states = machine["States"].as_object().unwrap();
        let mut reached: BTreeSet<&str> = BTreeSet::from([machine["StartAt"].as_str().unwrap()]);
        for (name, state) in states {
            let choices = state["Choices"].as_array().into_iter().flatten();
            let catches = state["Catch"].as_array().into_iter().flatten();
            let targets =
                choices.chain(catches).map(|rule| &rule["Next"]).chain([&state["Next"], &state["Default"]]);
            reached.extend(targets.filter_map(Value::as_str));
            let ends = state["End"] == true || ["Succeed", "Fail"].contains(&state["Type"].as_str().unwrap());
            assert!(
                ends || state["Next"].is_string() || state["Default"].is_string(),
                "`{name}` leads nowhere"
            );
            state["Branches"].as_array().into_iter().flatten().for_each(check);
        }
        assert_eq!(reached, states.keys().map(String::as_str).collect());
    }
    check(&state_machine());
}

#[test]
fn every_task_is_bounded_retries_and_catches_everything() {
    visit_states(&state_machine(), &mut |name, state| {
        if state["Type"] != "Task" {
            return;
        }
        assert!(state["TimeoutSeconds"].is_u64(), "`{name}` has no TimeoutSeconds");
        for retry in state["Retry"].as_array().expect(name) {
            assert!(retry["MaxDelaySeconds"].is_u64(), "`{name}` retries without MaxDelaySeconds");
            assert_eq!(retry["JitterStrategy"], "FULL", "`{name}`");
            assert!(
                !texts(&retry["ErrorEquals"]).contains(&"States.ALL"),
                "`{name}` retries what is permanent"
            );
        }
        let last = state["Catch"].as_array().expect(name).last().expect(name);
        assert_eq!(texts(&last["ErrorEquals"]), ["States.ALL"], "`{name}`");
    });
}

#[test]
fn retried_errors_are_exactly_the_transient_errors_of_the_code() {
    let transient = BTreeMap::from([
        ("ArchiveFunction", archive::TRANSIENT),
        ("MetadataFunction", metadata::TRANSIENT),
        ("AggregateFunction", aggregate::TRANSIENT),
        ("FailureFunction", failure::TRANSIENT),
    ]);
    let mut seen = Names::new();
    visit_states(&state_machine(), &mut |name, state| {
        let retried: BTreeSet<&str> = state["Retry"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|retry| texts(&retry["ErrorEquals"]))
            .collect();
        let (ours, platform): (BTreeSet<_>, BTreeSet<_>) =
            retried.iter().partition(|name| ErrorName::from_name(name).is_some());
        for error in &platform {
            assert!(
                TRANSIENT_PLATFORM_ERRORS.contains(error),
                "`{name}` retries {error}, which the code does not know"
            );
        }
        let function =
            state["Arguments"]["FunctionName"].as_str().map(|text| text.trim_matches(['$', '{', '}']));
        let expected: BTreeSet<&str> = function.map_or_else(BTreeSet::new, |function| {
            seen.insert(function.to_owned());
            transient[function].iter().map(|name| name.as_str()).collect()
        });
        assert_eq!(ours, expected, "`{name}`");
        for error in ours {
            assert_eq!(
                ErrorName::from_name(error).unwrap().kind(),
                ErrorKind::Transient,
                "`{name}`: {error}"
            );
        }
    });
    assert_eq!(seen, transient.keys().map(|name| (*name).to_owned()).collect::<Names>());
}

#[test]
fn stages_are_named_alike_in_code_template_and_state_machine() {
    let text = state_machine_text();
    for stage in ["archive", "metadata", "aggregate"] {
        assert!(
            text.contains(&format!("\"stage\": \"{stage}\"")),
            "the state machine does not name stage {stage}"
        );
        assert!(folders_of_functions().contains(stage));
    }
}

#[test]
fn every_failure_leads_through_the_failure_function_to_a_fail_state() {
    let machine = state_machine();
    let states = machine["States"].as_object().unwrap();
    for (name, expected) in [
        ("Process record", "Handle failure"),
        ("Aggregate record", "Handle failure"),
        ("Handle failure", "Failure not handled"),
        // An announcement or a close that fails is no failure of the record: reconcile repeats it.
        ("Announce completion", "Leave record open"),
        ("Close record", "Leave record open"),
    ] {
        let catch = states[name]["Catch"].as_array().unwrap().last().unwrap();
        assert_eq!(catch["Next"], expected, "`{name}`");
    }
    let caught = states.values().filter(|state| state["Catch"].is_array()).count();
    assert_eq!(caught, 5, "every state that can fail is listed above");
    let handled = &states["Handle failure"]["Next"];
    let complete = &states[handled.as_str().unwrap()];
    assert_eq!(
        (&complete["Choices"][0]["Next"], &complete["Default"]),
        (&"Record failed".into(), &"Failure unfinished".into())
    );
    for name in ["Record failed", "Failure unfinished", "Failure not handled"] {
        assert_eq!(states[name]["Type"], "Fail", "`{name}`");
    }
}

#[test]
fn a_record_is_closed_only_after_its_completion_was_announced_and_only_by_its_attempt() {
    let machine = state_machine();
    let states = &machine["States"];
    let announced = &states["Is everything announced?"];
    assert_eq!(announced["Choices"][0]["Next"], "Announce completion");
    assert_eq!(announced["Default"], "Leave record open");
    assert_eq!(states["Announce completion"]["Next"], "Close record");
    let mut ways_to_close = Vec::new();
    visit_states(&machine, &mut |name, state| {
        let catches = state["Catch"].as_array().into_iter().flatten();
        let choices = state["Choices"].as_array().into_iter().flatten();
        let all = catches.chain(choices).map(|rule| &rule["Next"]).chain([&state["Next"], &state["Default"]]);
        if all.into_iter().any(|next| next == "Close record") {
            ways_to_close.push(name.to_owned());
        }
    });
    assert_eq!(ways_to_close, ["Announce completion"]);
    let close = &states["Close record"]["Arguments"];
    assert_eq!(close["ConditionExpression"], "attribute_not_exists(messageID) OR attempt = :attempt");
}

#[test]
fn a_branch_turns_its_error_into_a_result_and_an_announcement_never_fails_a_record() {
    let machine = state_machine();
    let branches = machine["States"]["Process record"]["Branches"].as_array().unwrap();
    assert_eq!(branches.len(), 3);
    for branch in branches {
        for (name, state) in
            branch["States"].as_object().unwrap().iter().filter(|(_, state)| state["Type"] == "Task")
        {
            let catch = &state["Catch"][0];
            let kept = branch["States"][catch["Next"].as_str().unwrap()].clone();
            assert_eq!((&kept["Type"], &kept["End"]), (&"Pass".into(), &true.into()), "`{name}`");
            let is_announcement = state["Arguments"]["TopicArn"].is_string();
            assert_eq!(catch["Output"]["ok"], is_announcement, "`{name}`");
            if is_announcement {
                assert_eq!(state["Output"]["published"], true, "`{name}`");
                assert_eq!(catch["Output"]["published"], false, "`{name}`");
                // An announcement after a stage passes the stage's receipt on, whether or not it succeeds.
                let after_stage = branch["StartAt"] != *name;
                let receipt = if after_stage { "{% $states.input %}".into() } else { Value::Null };
                assert_eq!((&state["Output"]["receipt"], &catch["Output"]["receipt"]), (&receipt, &receipt));
            } else {
                assert_eq!(catch["Output"]["failure"]["stage"], catch["Output"]["stage"], "`{name}`");
                assert_eq!(catch["Output"]["receipt"], Value::Null, "`{name}`");
            }
        }
    }
}

#[test]
fn the_redrive_queue_is_wired_for_redrives_by_hand_by_itself_and_by_sqs() {
    let template = template();
    let resources = &template["Resources"];
    let queue = &resources["RedriveQueue"]["Properties"];
    // StartMessageMoveTask takes only a source that is the dead-letter queue of another queue.
    assert_eq!(queue["RedrivePolicy"]["deadLetterTargetArn"].as_str(), Some("DeadLetterQueue.Arn"));
    let function = &functions(&template)["redrive"]["Properties"];
    let source = &function["Events"]["Redrives"]["Properties"];
    assert_eq!(source["Queue"].as_str(), Some("RedriveQueue.Arn"));
    assert_eq!(source["FunctionResponseTypes"][0].as_str(), Some("ReportBatchItemFailures"));
    assert!(source["ScalingConfig"]["MaximumConcurrency"].as_i64().is_some_and(|limit| limit >= 2));
    // AWS recommends at least six times the function's timeout, so that no message is delivered again while it is
    // processed.
    let (visibility, timeout) =
        (queue["VisibilityTimeout"].as_i64().unwrap(), function["Timeout"].as_i64().unwrap());
    assert!(visibility >= 6 * timeout, "{visibility} s for a function that takes {timeout} s");
    // Lambda treats 16 passes of a message through queues and functions as a loop, and drops the batch.
    let receives = queue["RedrivePolicy"]["maxReceiveCount"].as_i64().unwrap();
    let redrives = template["Parameters"]["RedriveMaxAttempts"]["MaxValue"].as_i64().unwrap();
    assert!(receives < 16 && redrives < 16);
}

#[test]
fn the_alarms_watch_metrics_that_are_written() {
    let template = template();
    let alarm = |name: &str| template["Resources"][name]["Properties"].clone();
    let open = alarm("OpenRecordAlarm");
    assert_eq!(open["Namespace"].as_str(), Some(metrics::NAMESPACE));
    assert_eq!(open["MetricName"].as_str(), Some(metrics::OLDEST_OPEN_AGE));
    assert_eq!(open["TreatMissingData"].as_str(), Some("breaching"), "missing data raises the alarm");
    assert_eq!(alarm("FailedRecordAlarm")["MetricName"].as_str(), Some(metrics::FAILED_RECORDS));
    assert_eq!(alarm("StuckAlarm")["MetricName"].as_str(), Some(metrics::STUCK));
}

#[test]
fn the_index_of_open_records_and_the_expiry_of_claims_are_those_of_the_code() {
    let template = template();
    let open = &template["Resources"]["OpenRecordTable"]["Properties"];
    let index = &open["GlobalSecondaryIndexes"][0];
    assert_eq!(index["IndexName"].as_str(), Some(DUE_INDEX));
    assert_eq!(index["Projection"]["ProjectionType"].as_str(), Some("KEYS_ONLY"));
    assert!(open["TimeToLiveSpecification"].is_badvalue(), "open records do not expire");
    let claims = &template["Resources"]["IdempotencyTable"]["Properties"];
    assert_eq!(claims["TimeToLiveSpecification"]["AttributeName"].as_str(), Some("timeToLive"));
}

#[test]
fn a_receipt_names_the_durability_that_is_in_effect() {
    let template = template();
    let of_cache = functions(&template).into_values().filter_map(|function| {
        let durability = &function["Properties"]["Environment"]["Variables"]["CACHE_DURABILITY"];
        durability.as_str().map(str::to_owned)
    });
    let all: Vec<_> = of_cache.collect();
    assert_eq!(all, vec!["CacheReplicationGroup.EffectiveDurability"; 5], "not the requested one");
    let cache = &template["Resources"]["CacheReplicationGroup"]["Properties"];
    let asked_for = cache["Durability"].as_vec().expect("the template names the durability levels");
    assert!(asked_for.iter().all(|value| value.as_str() != Some("default")));
}

#[test]
fn tables_and_their_indexes_can_be_warmed() {
    let template = template();
    for table in ["RecordTable", "OpenRecordTable", "IdempotencyTable"] {
        let table = &template["Resources"][table]["Properties"];
        let indexes = table["GlobalSecondaryIndexes"].as_vec().map_or(&[][..], Vec::as_slice);
        for part in indexes.iter().chain([table]) {
            assert!(!part["WarmThroughput"].is_badvalue(), "{part:?}");
        }
    }
}

#[test]
fn rejected_requests_expire_and_payloads_of_failed_records_do_not() {
    let template = template();
    let rules = &template["Resources"]["FailedBucket"]["Properties"]["LifecycleConfiguration"]["Rules"];
    let expiring: Vec<_> = rules
        .as_vec()
        .unwrap()
        .iter()
        .filter(|rule| !rule["ExpirationInDays"].is_badvalue())
        .map(|rule| (rule["Prefix"].as_str().unwrap(), rule["ExpirationInDays"].as_i64().unwrap()))
        .collect();
    assert_eq!(expiring, [(stored_names::REJECTED_PREFIX, 30)]);
}
