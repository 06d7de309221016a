//! Tests the operator's tool on a real deployment: from a failed record to a completed one, and what the tool must not
//! allow.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{
    collections::HashMap,
    process::{Command, Stdio},
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use custody_core::{
    clock::Timestamp,
    digest::Sha256,
    message::InternalMessage,
    receipt::Receipt,
    record_id::RecordId,
    testing::{contract, samples},
};
use custody_e2e::{Denied, Stack, custody_command, run_custody, run_custody_as};
use custody_test_client::{
    records::{Kind, Record, Size},
    verify,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Creates a failed record: the archive function is denied writing to the archive while the record's workflow runs.
async fn failed(stack: &Stack, seed: u64) -> (Record, Receipt) {
    let denied = Denied::to(stack.deployment.output("ArchiveFunctionName").unwrap(), "s3:PutObject");
    let record = Record::generate(Kind::Random, Size::Bytes(100_000), seed);
    let receipt = stack.sender.send(&record).await.unwrap().receipt;
    stack.execution(receipt.message_id).await.unwrap();
    drop(denied);
    (record, receipt)
}

fn json(arguments: &[&str]) -> (i32, Value) {
    let (status, text) = run_custody(&[&["--json"], arguments].concat());
    (status, serde_json::from_str(&text).unwrap_or_default())
}

fn line(id: RecordId) -> Option<Value> {
    let (status, lines) = json(&["dlq", "list"]);
    assert_eq!(status, 0);
    lines.as_array().unwrap().iter().find(|line| line["id"] == id.to_string()).cloned()
}

/// Returns whether Step Functions stores a history of executions. It does not for an `EXPRESS` workflow.
fn has_execution_history(stack: &Stack) -> bool {
    stack.deployment.output("StateMachineType").unwrap() == "STANDARD"
}

/// Returns the statuses of a record's executions. They are empty if there is no history.
fn execution_statuses(name: &str) -> Vec<String> {
    let (_, trace) = json(&["trace", name]);
    let executions = trace["executions"]["list"].as_array().unwrap().iter();
    executions.map(|execution| execution["status"].as_str().unwrap().to_owned()).collect()
}

async fn put_dead_letter(stack: &Stack, queue: &str, body: &str) {
    let url = stack.deployment.output(queue).unwrap();
    stack.deployment.aws.sqs().send_message().queue_url(url).message_body(body).send().await.unwrap();
}

/// Checks what a person reads about a failed record: in a line of its own, and in a group that fits a terminal.
fn check_lists_for_people(name: &str) {
    let (status, text) = run_custody(&["dlq", "list", "--each"]);
    assert!(status == 0 && text.contains(name) && text.contains("s3:PutObject"), "{text}");
    let (status, text) = run_custody(&["dlq", "list"]);
    assert!(status == 0 && text.contains("archive, Internal") && text.contains("s3:PutObject"), "{text}");
    let mut groups = text.lines().take_while(|line| !line.contains(" group"));
    assert!(groups.all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(run_custody(&["dlq", "redrive", "--stage", "archiv", "--dry-run"]).0, 2, "no such stage");
}

#[tokio::test]
async fn a_failed_record_is_listed_shown_and_redriven() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let (record, receipt) = failed(&stack, 901).await;
    let id = receipt.message_id;
    let name = id.to_string();
    let found = stack.eventually("the dead letter is listed", async || line(id)).await;
    assert_eq!(
        (&found["stage"], &found["kind"], &found["attempt"]),
        (&"archive".into(), &"Internal".into(), &1.into())
    );
    check_lists_for_people(&name);
    let (status, dead_letters) = json(&["dlq", "show", &name]);
    assert_eq!((status, &dead_letters[0]["messageID"]), (0, &name.as_str().into()));
    let dead_letter = dead_letters[0].to_string();
    let (status, trace) = json(&["trace", &name]);
    assert_eq!((status, &trace["item"]["status"]), (0, &"FAILED".into()));
    assert_eq!(trace["payload"]["preserved"]["sha256"], record.sha256().to_string());
    if has_execution_history(&stack) {
        let first = &trace["executions"]["list"][0];
        assert_eq!((&first["status"], &first["error"]), (&"FAILED".into(), &"AccessDenied".into()));
        assert!(first["states"].as_array().unwrap().len() > 3, "{trace}");
    } else {
        assert_eq!(trace["executions"], json!({"history": false, "list": []}));
    }
    let (status, undecided) = json(&["failed"]);
    assert_eq!(status, 0);
    assert!(undecided["records"].to_string().contains(&name), "{undecided}");

    // A dry run changes nothing.
    let (status, summary) = json(&["dlq", "redrive", "--id", &name, "--dry-run"]);
    assert_eq!((status, &summary["redriven"]), (0, &json!([name])));
    assert!(line(id).is_some());

    // A record that is redriven while the cause still exists fails again, and its dead letter has the history.
    let denied = Denied::to(stack.deployment.output("ArchiveFunctionName").unwrap(), "s3:PutObject");
    let (status, summary) = json(&["dlq", "redrive", "--id", &name, "--now", "--wait"]);
    assert_eq!(
        (status, &summary["ends"]),
        (1, &json!({"completed": 0, "failedAgain": [name], "discarded": [], "stillWaiting": []}))
    );
    let again = async || line(id).filter(|line| line["attempt"] == 2);
    stack.eventually("it fails again", again).await;
    let (_, dead_letters) = json(&["dlq", "show", &name]);
    assert_eq!(dead_letters[0]["history"][0]["attempt"], 1, "{dead_letters}");
    drop(denied);

    // After the cause is gone, the record completes under the same id with the same bytes.
    let by_stage = ["dlq", "redrive", "--stage", "archive", "--since", "1h", "--now", "--wait"];
    let (status, summary) = json(&by_stage);
    assert_eq!((status, &summary["ends"]["completed"]), (0, &1.into()), "{summary}");
    assert_eq!(stack.status(id).await, "COMPLETED");
    let bucket = stack.deployment.output("ArchiveBucket").unwrap();
    assert_eq!(verify::object(&stack.deployment, bucket, &id.archive_key()).await.unwrap(), record.payload);
    assert!(line(id).is_none(), "the dead letter is gone");
    let expected: &[&str] =
        if has_execution_history(&stack) { &["FAILED", "FAILED", "SUCCEEDED"] } else { &[] };
    assert_eq!(execution_statuses(&name), expected);
    stack.reconcile_until("the record is closed", async || !stack.is_open(id).await).await;

    // A dead letter that is delivered once more has no effect.
    put_dead_letter(&stack, "RedriveQueueUrl", &dead_letter).await;
    let said = async || {
        let logged = custody_e2e::run_support_script("logs_containing.py", &[&name], "").unwrap();
        logged.contains("COMPLETED already").then_some(())
    };
    stack.eventually("the redrive function reports that there is nothing to do", said).await;
    assert_eq!(execution_statuses(&name), expected, "it is not run again");
    assert_eq!(stack.status(id).await, "COMPLETED");
}

/// SQS hides the messages that a reader has received, for minutes.
#[tokio::test]
async fn a_list_that_is_broken_off_hides_no_dead_letter() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let (_, receipt) = failed(&stack, 908).await;
    let id = receipt.message_id;
    stack.eventually("the dead letter is listed", async || line(id)).await;
    let list = || {
        let mut list = custody_command("OperatorRoleArn");
        list.args(["dlq", "list"]).stdout(Stdio::piped()).spawn().unwrap()
    };
    // As in `custody dlq list | true`.
    let mut read_by_nobody = list();
    drop(read_by_nobody.stdout.take());
    read_by_nobody.wait().unwrap();
    assert!(line(id).is_some());
    // As with Ctrl-C, while it waits for the end of the queue.
    let mut broken_off = list();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let pid = broken_off.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    broken_off.wait().unwrap();
    assert!(line(id).is_some());
    assert_eq!(json(&["dlq", "discard", "--id", &id.to_string(), "--reason", "made by a test"]).0, 0);
    // Reconcile has not closed it yet, or has: nobody is asked to decide again.
    let (_, undecided) = json(&["failed", "--limit", "10000"]);
    let still = undecided["records"].as_array().unwrap().iter().find(|r| r["messageID"] == id.to_string());
    assert!(still.is_none_or(|record| record["discarded"] == true), "{still:?}");
}

/// A redrive that waits: SQS shows nobody the messages that it delays or hides.
#[tokio::test]
async fn a_record_that_waits_for_its_redrive_is_seen_everywhere() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let (_, receipt) = failed(&stack, 906).await;
    let id = receipt.message_id;
    let name = id.to_string();
    stack.eventually("the dead letter is listed", async || line(id)).await;
    let trace = run_custody(&["trace", &name]).1;
    assert!(trace.contains(&format!("custody dlq redrive --id {name} --wait")), "{trace}");
    assert!(trace.contains("helps: mend the cause, then redrive"), "{trace}");

    // The redrive function cannot begin the attempt, so the redrive waits for SQS to deliver it again.
    let denied = Denied::to(stack.deployment.output("RedriveFunctionName").unwrap(), "dynamodb:*");
    let (status, text) = run_custody(&["dlq", "redrive", "--id", &name, "--now"]);
    assert!(status == 0 && text.contains("1 record sent to the redrive queue"), "{text}");
    assert!(line(id).is_none(), "its dead letter has left the queue");
    let (_, undecided) = json(&["failed", "--limit", "10000"]);
    let records = undecided["records"].as_array().unwrap();
    let failed = records.iter().find(|record| record["messageID"] == name.as_str()).unwrap();
    assert!(failed["redriveAt"].is_string(), "{failed}");
    assert_eq!(failed["remedy"], "mend-then-redrive");
    assert!(json(&["trace", &name]).1["open"]["redriveAt"].is_string());
    for command in [&["failed", "--limit", "10000"][..], &["trace", &name], &["dlq", "list"]] {
        let (_, text) = run_custody(command);
        assert!(text.contains(&name) && text.contains("redrive due"), "{command:?}: {text}");
    }
    let (status, screen) = json(&["status"]);
    assert_eq!(status, 0);
    assert!(screen["failures"]["redrivesNoted"].as_u64() > Some(0), "{screen}");
    drop(denied);

    // It is redriven again, from its open record. The first message finds a later attempt when SQS delivers it.
    let (status, summary) = json(&["dlq", "redrive", "--id", &name, "--now", "--wait"]);
    assert_eq!((status, &summary["ends"]["completed"]), (0, &1.into()), "{summary}");
}

#[tokio::test]
async fn one_screen_shows_what_an_operator_on_call_looks_at_first() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let (_, receipt) = failed(&stack, 907).await;
    let id = receipt.message_id;
    stack.eventually("the dead letter is listed", async || line(id)).await;
    let seen = async || {
        let (status, screen) = json(&["status"]);
        assert_eq!((status, &screen["problems"]), (0, &json!([])), "{screen}");
        let cause = screen["failures"]["causes"].as_array().unwrap().iter().find(|cause| {
            (&cause["stage"], &cause["errorName"]) == (&"archive".into(), &"AccessDenied".into())
        });
        let receipts = screen["receipts"]["perMinute"].as_array().unwrap().iter();
        (cause.is_some() && receipts.filter_map(Value::as_u64).sum::<u64>() > 0).then_some(screen)
    };
    let screen = stack.eventually("cause and receipts are shown", seen).await;
    assert!(screen["queues"]["deadLetters"].as_u64() > Some(0), "{screen}");
    let (status, text) = run_custody(&["status", "--once"]);
    assert!(status == 0 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("archive: AccessDenied") && text.contains("mend the cause"), "{text}");
    // An auditor may not ask for queues: that is no zero. (Nor for metrics and alarms on AWS; the emulator lets everybody.)
    let (status, text) = run_custody_as("AuditorRoleArn", &["--json", "status"]);
    let screen: Value = serde_json::from_str(&text).unwrap();
    assert!(status == 0 && screen["open"].is_object(), "{screen}");
    assert!(screen["queues"]["deadLetters"].is_null(), "{screen}");
    assert_eq!(json(&["dlq", "discard", "--id", &id.to_string(), "--reason", "made by a test"]).0, 0);

    let (status, checks) = json(&["doctor"]);
    assert!(
        checks
            .as_array()
            .unwrap()
            .iter()
            .any(|check| check["of"] == "permissions" || check["of"] == "record table")
    );
    assert!(status == 0 || status == 1, "{checks}");
    assert_eq!(json(&["plan", "--rate", "10", "--size", "1MB"]).0, 0);
    assert_eq!(json(&["open"]).0, 0);
    let (status, found) = json(&["find", "--source", "custody-test-client", "--limit", "3"]);
    assert!(status == 0 && found["records"][0]["messageID"].is_string(), "{found}");
}

/// Sends a record each time until `custody watch` has ended. The subscription may not be in effect for the first ones.
#[tokio::test]
async fn watch_shows_notifications_while_they_are_published_and_leaves_nothing_behind() {
    let stack = Stack::under_test().await;
    let arguments = ["--json", "watch", "--type", "completed", "--source", "custody-*", "--count", "1"];
    let watch = tokio::task::spawn_blocking(move || run_custody(&arguments));
    stack
        .eventually("watch has ended", async || {
            let record = Record::generate(Kind::Text, Size::Bytes(1000), 77);
            stack.sender.send(&record).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            watch.is_finished().then_some(())
        })
        .await;
    let (status, printed) = watch.await.unwrap();
    assert_eq!(status, 0);
    let event: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(event["type"], "custody.message.completed.v1");
    assert_eq!(event["data"]["messageMetaData"]["sourceSystemID"], "custody-test-client");
    let sqs = stack.deployment.aws.sqs();
    let queues = sqs.list_queues().queue_name_prefix("custody-watch-").send().await.unwrap();
    assert_eq!(queues.queue_urls(), [] as [String; 0]);
}

#[tokio::test]
async fn with_json_errors_are_json_as_well() {
    let id = custody_core::testing::samples::record_id();
    for arguments in [
        &["--json", "trace", &id.to_string()][..],
        &["--json", "dlq", "show", &id.to_string()],
        &["--json", "--stack-name", "no-such-stack", "open"],
    ] {
        let output = std::process::Command::new(custody_e2e::variable("CUSTODY_CLI"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success());
        let error: Value = serde_json::from_slice(&output.stderr).expect("the error is JSON");
        assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    }
}

#[tokio::test]
async fn a_cache_that_takes_payloads_is_not_waited_for() {
    assert_eq!(run_custody(&["drain", "--wait", "0s"]).0, 4);
}

#[tokio::test]
async fn a_record_whose_dead_letter_has_expired_can_still_be_redriven() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let (record, receipt) = failed(&stack, 904).await;
    let id = receipt.message_id;
    stack.eventually("the dead letter is listed", async || line(id)).await;
    let queue = stack.deployment.output("DeadLetterQueueUrl").unwrap();
    custody_e2e::run_support_script("fill_queue.py", &[queue, "--purge"], "").unwrap();
    assert!(line(id).is_none());
    let (status, summary) = json(&["dlq", "redrive", "--id", &id.to_string(), "--now"]);
    assert_eq!((status, &summary["redriven"]), (0, &json!([id])));
    stack.eventually("it completes", async || (stack.status(id).await == "COMPLETED").then_some(())).await;
    let bucket = stack.deployment.output("ArchiveBucket").unwrap();
    assert_eq!(verify::object(&stack.deployment, bucket, &id.archive_key()).await.unwrap(), record.payload);
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_redriven_comes_back_and_one_that_is_not_ours_is_left_alone() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    // Creates a dead letter of a record that is in no store.
    let message = samples::message(b"gone");
    let dead_letter = custody_core::dead_letter::DeadLetter::of_record(
        &message,
        contract::failure_of(&message),
        Vec::new(),
    );
    put_dead_letter(&stack, "DeadLetterQueueUrl", &serde_json::to_string(&dead_letter).unwrap()).await;
    put_dead_letter(&stack, "DeadLetterQueueUrl", "hello, this is not JSON").await;
    put_dead_letter(&stack, "DeadLetterQueueUrl", r#"{"Records": ["of somebody else"]}"#).await;
    let rejected = stack.sender.post(&[], "not a record").await.unwrap();
    assert_eq!(rejected.status, 400);

    let id = message.message_id.to_string();
    let (status, summary) = json(&["dlq", "redrive", "--all", "--now"]);
    assert_eq!(status, 1, "some are left: {summary}");
    assert!(summary["redriven"].as_array().unwrap().contains(&id.as_str().into()), "{summary}");
    assert_eq!(summary["foreign"].as_array().unwrap().len(), 2, "{summary}");
    assert!(
        summary["requests"].as_array().unwrap().is_empty(),
        "a rejected request is no dead letter: {summary}"
    );
    let came_back = async || {
        line(message.message_id).filter(|_| {
            let (_, dead_letters) = json(&["dlq", "show", &id]);
            dead_letters[0]["unfinished"].to_string().contains("is not open")
        })
    };
    stack.eventually("the dead letter comes back with a reason", came_back).await;
    let request_id =
        rejected.json()["instance"].as_str().unwrap().trim_start_matches("urn:custody:request:").to_owned();
    let listed = async || json(&["rejected", "list"]).1.to_string().contains(&request_id).then_some(());
    stack.eventually("the rejected request is listed", listed).await;
    let (status, shown) = json(&["rejected", "show", &request_id]);
    assert!(status == 0 && shown[0]["storedRequest"].is_object(), "{shown}");
    let (status, discarded) =
        json(&["rejected", "discard", "--id", &request_id, "--reason", "made by a test"]);
    assert_eq!((status, &discarded["discarded"]), (0, &json!([request_id])));

    assert_eq!(run_custody(&["dlq", "show", "nobody"]).0, 3);
    assert_eq!(run_custody(&["dlq", "redrive", "--id", "nobody"]).0, 3);
    assert_eq!(run_custody(&["trace", &samples::record_id().to_string()]).0, 3);
    assert_eq!(run_custody(&["trace", "no-id"]).0, 2);
    assert_eq!(run_custody(&["dlq", "redrive"]).0, 2, "`--all` or a selection is required");
    assert_eq!(run_custody(&["dlq", "discard", "--all"]).0, 2, "a reason must be given");
    assert_eq!(run_custody(&["--stack-name", "no-such-stack", "open"]).0, 4);
}

#[tokio::test]
async fn a_discarded_record_reports_who_discarded_it_when_and_why() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let (_, receipt) = failed(&stack, 902).await;
    let id = receipt.message_id;
    let name = id.to_string();
    stack.eventually("the dead letter is listed", async || line(id)).await;
    let (_, dead_letters) = json(&["dlq", "show", &name]);
    let metrics = custody_e2e::run_support_script("logs_containing.py", &["StageErrors"], "").unwrap();
    let of_archive = |line: &&str| line.contains(r#""Function":"archive""#) && line.contains("AccessDenied");
    assert!(metrics.lines().any(|line| of_archive(&line)), "the failure is a metric: {metrics}");
    let (status, log) = json(&["logs", "archive", "--warnings", "--contains", "AccessDenied"]);
    assert_eq!((status, &log["lines"][0]["level"]), (0, &"ERROR".into()), "{log}");
    assert_eq!(json(&["dlq", "discard", "--id", &name, "--reason", "the decision was withdrawn"]).0, 0);
    assert!(line(id).is_none());
    let item = verify::item(&stack.deployment, id).await.unwrap();
    let discarded = &item["discarded"];
    assert_eq!(discarded["reason"], "the decision was withdrawn");
    assert!(discarded["by"].as_str().unwrap().starts_with("arn:"), "{discarded}");
    assert!(Timestamp::parse(discarded["at"].as_str().unwrap()).is_some());
    // A copy of its dead letter does not cause another attempt.
    put_dead_letter(&stack, "RedriveQueueUrl", &dead_letters[0].to_string()).await;
    let said = async || {
        let logged = custody_e2e::run_support_script("logs_containing.py", &[&name], "").unwrap();
        logged.contains("discarded").then_some(())
    };
    stack.eventually("the redrive function leaves it alone", said).await;
    assert_eq!(stack.status(id).await, "FAILED");
    stack.reconcile_until("the decision closes the record", async || !stack.is_open(id).await).await;
    stack.announced(id, "discarded").await;
}

#[tokio::test]
async fn every_function_has_a_log_that_operators_may_read() {
    let stack = Stack::under_test().await;
    stack.reconcile().await;
    for function in [
        "ingest",
        "query",
        "upload",
        "authorizer",
        "archive",
        "metadata",
        "aggregate",
        "failure",
        "reconcile",
        "redrive",
    ] {
        let (status, text) = run_custody(&["logs", function, "--since", "1d", "--limit", "3"]);
        assert_eq!(status, 0, "{function}: {text}");
    }
    let (_, log) = json(&["logs", "reconcile", "--contains", "starting"]);
    assert!(log["lines"][0]["fields"]["release"].is_string(), "{log}");
    assert_eq!(run_custody(&["logs", "nobody"]).0, 2);
}

/// Loses the items of a completed record and of a discarded one, as a lost table does.
#[tokio::test]
async fn lost_items_are_rebuilt_from_the_archive() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let (_, receipt) = failed(&stack, 904).await;
    let discarded = receipt.message_id;
    stack.eventually("the dead letter is listed", async || line(discarded)).await;
    let discard = ["dlq", "discard", "--id", &discarded.to_string(), "--reason", "sent in error"];
    assert_eq!(json(&discard).0, 0);
    stack.reconcile_until("the discarded record is closed", async || !stack.is_open(discarded).await).await;
    let record = Record::generate(Kind::Random, Size::Bytes(50_000), 905);
    let receipt = stack.sender.send(&record).await.unwrap().receipt;
    let completed = receipt.message_id;
    let arrivals = stack.follow(completed).await.unwrap();
    stack.reconcile_until("the record is closed", async || !stack.is_open(completed).await).await;

    let mut before = Vec::new();
    for id in [completed, discarded] {
        before.push(verify::item(&stack.deployment, id).await.unwrap());
        let delete = stack.deployment.aws.dynamodb().delete_item();
        let delete = delete.table_name(stack.deployment.output("TableName").unwrap());
        delete.key("messageID", AttributeValue::S(id.to_string())).send().await.unwrap();
    }
    let rebuild = |role: &str, arguments: &[&str]| {
        let all =
            [&["--json", "rebuild", "--since", "10min", "--max-per-second", "1000"], arguments].concat();
        let (status, text) = run_custody_as(role, &all);
        (status, serde_json::from_str::<Value>(&text).unwrap_or_default())
    };
    let (status, report) = rebuild("RebuildRoleArn", &["--dry-run"]);
    assert_eq!((status, &report["completed"], &report["discarded"]), (0, &1.into(), &1.into()), "{report}");
    assert_eq!(stack.status(completed).await, "", "a dry run makes nothing");
    let (status, report) = rebuild("OperatorRoleArn", &[]);
    assert_eq!((status, &report["completed"]), (1, &0.into()), "an operator may not write items: {report}");
    assert!(report["problems"].to_string().contains("RebuildRole"), "{report}");
    let (status, report) = rebuild("RebuildRoleArn", &[]);
    assert_eq!((status, &report["completed"], &report["discarded"]), (0, &1.into(), &1.into()), "{report}");

    // The record is what it was for everybody who asks, apart from two times and the note.
    verify::check_completed(&stack.deployment, &record, &receipt, &arrivals).await.unwrap();
    for (id, mut before) in [completed, discarded].into_iter().zip(before) {
        let mut after = verify::item(&stack.deployment, id).await.unwrap();
        assert!(after["rebuiltAt"].is_string(), "{after}");
        for item in [&mut before, &mut after] {
            let item = item.as_object_mut().unwrap();
            for of_the_write in ["rebuiltAt", "metaDataStoredAt", "completedAt"] {
                item.remove(of_the_write);
            }
        }
        assert_eq!(after, before);
    }
    let (_, report) = rebuild("RebuildRoleArn", &[]);
    assert_eq!((&report["completed"], &report["discarded"]), (&0.into(), &0.into()), "nothing is left to do");
}

#[tokio::test]
async fn fsck_finds_every_disagreement_and_no_other() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let record = Record::generate(Kind::Text, Size::Bytes(5_000), 903);
    let good = stack.sender.send(&record).await.unwrap().receipt.message_id;
    stack.follow(good).await.unwrap();

    // Uses records of yesterday, so that none of them can still be in progress.
    let yesterday = Timestamp::from_unix_ms(good.received_at().unix_ms() - 86_400_000).unwrap();
    let old = |payload: &[u8]| samples::message_of(RecordId::mint(yesterday), payload);
    let plant_object = async |message: &InternalMessage, content: &'static [u8]| {
        let bucket = stack.deployment.output("ArchiveBucket").unwrap();
        let put = stack.deployment.aws.s3().put_object().bucket(bucket).key(message.message_id.archive_key());
        put.body(Bytes::from_static(content).into()).send().await.unwrap();
    };
    let plant_item = async |message: &InternalMessage, status: &str| {
        let mut item: HashMap<String, AttributeValue> = serde_dynamo::to_item(message).unwrap();
        item.insert("status".to_owned(), AttributeValue::S(status.to_owned()));
        let table = stack.deployment.output("TableName").unwrap();
        stack
            .deployment
            .aws
            .dynamodb()
            .put_item()
            .table_name(table)
            .set_item(Some(item))
            .send()
            .await
            .unwrap();
    };
    let orphan = old(b"orphan");
    plant_object(&orphan, b"orphan").await;
    let gone = old(b"gone");
    plant_item(&gone, "COMPLETED").await;
    let altered = old(b"as it was");
    plant_object(&altered, b"as it is.").await;
    plant_item(&altered, "COMPLETED").await;
    let halted = old(b"stuck");
    plant_item(&halted, "RECEIVED").await;
    let unexplained = old(b"unexplained");
    plant_item(&unexplained, "FAILED").await;

    let (status, report) = json(&["fsck", "--full", "--max-per-second", "5000"]);
    assert_eq!(status, 1, "{report}");
    let found = |message: &InternalMessage| -> Vec<String> {
        let findings = report["findings"].as_array().unwrap().iter();
        let of_it = findings.filter(|finding| finding["subject"] == message.message_id.to_string());
        of_it.map(|finding| finding["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found(&orphan), ["object-without-item"]);
    assert_eq!(found(&gone), ["item-without-object"]);
    assert_eq!(found(&altered), ["digest-mismatch"]);
    assert_eq!(found(&halted), ["stuck-record"]);
    assert!(found(&unexplained).contains(&"failed-not-open".to_owned()), "{report}");
    assert!(!report["findings"].to_string().contains(&good.to_string()), "a good record is no finding");
    assert_eq!(Sha256::of(&record.payload), record.sha256());
}

#[tokio::test]
async fn a_queue_with_ten_thousand_messages_can_be_listed_and_sorted() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    custody_e2e::run_support_script(
        "fill_queue.py",
        &[stack.deployment.output("DeadLetterQueueUrl").unwrap(), "10000"],
        "",
    )
    .unwrap();
    let (status, lines) = json(&["dlq", "list"]);
    assert_eq!(status, 0);
    let lines = lines.as_array().unwrap().iter().filter(|line| line["errorName"] == "MadeByATest");
    let listed: std::collections::BTreeSet<_> = lines.map(|line| line["id"].to_string()).collect();
    assert_eq!(listed.len(), 10_000);
    // The messages are on the queue again for the next reader, and none of them belongs to a record.
    let (status, summary) =
        json(&["dlq", "redrive", "--kind", "Conflict", "--dry-run", "--max-per-second", "1000"]);
    assert_eq!((status, summary["requests"].as_array().unwrap().len()), (1, 10_000));
    custody_e2e::run_support_script(
        "fill_queue.py",
        &[stack.deployment.output("DeadLetterQueueUrl").unwrap(), "--purge"],
        "",
    )
    .unwrap();
}
