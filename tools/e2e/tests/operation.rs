//! Tests with what operators look at a real deployment, compare its stores and restore them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use custody_core::{
    clock::Timestamp, digest::Sha256, message::InternalMessage, record_id::RecordId, testing::samples,
};
use custody_e2e::{Stack, custody_command, dead_letter_line, run_custody, run_custody_as, run_custody_json};
use custody_test_client::{
    records::{Kind, Record, Size},
    verify,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{process::Command, sync::Mutex};

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn one_screen_shows_what_an_operator_on_call_looks_at_first() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let (_, receipt) = stack.failed_record(907).await;
    let id = receipt.message_id;
    stack.eventually("the dead letter is listed", async || dead_letter_line(id)).await;
    let seen = async || {
        let (status, screen) = run_custody_json(&["status"]);
        assert_eq!(status, 0, "{screen}");
        let cause = screen["failures"]["causes"].as_array().unwrap().iter().find(|cause| {
            (&cause["stage"], &cause["errorName"]) == (&"archive".into(), &"AccessDenied".into())
        });
        let receipts = screen["receipts"]["perMinute"].as_array().unwrap().iter();
        let knows_all = screen["problems"] == json!([]);
        (knows_all && cause.is_some() && receipts.filter_map(Value::as_u64).sum::<u64>() > 0)
            .then_some(screen)
    };
    let screen = stack.eventually("cause and receipts are shown", seen).await;
    assert!(screen["queues"]["deadLetters"].as_u64() > Some(0), "{screen}");
    let (status, text) = run_custody(&["status", "--once"]);
    assert!(status == 0 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("archive: AccessDenied") && text.contains("mend the cause"), "{text}");
    // An auditor may not ask for queues, metrics and alarms: that is no zero.
    let seen = async || {
        let (status, text) = run_custody_as("AuditorRoleArn", &["--json", "status"]);
        let screen: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 0, "{screen}");
        (screen["open"].is_object() && screen["problems"].as_array().unwrap().len() == 3).then_some(screen)
    };
    let screen = stack.eventually("an auditor sees all but three parts", seen).await;
    assert!(screen["queues"]["deadLetters"].is_null(), "{screen}");
    assert!(["receipts", "cache", "alarms"].iter().all(|part| screen[part].is_null()), "{screen}");
    assert_eq!(
        run_custody_json(&["dlq", "discard", "--id", &id.to_string(), "--reason", "made by a test"]).0,
        0
    );

    let (status, checks) = run_custody_json(&["doctor"]);
    assert!(
        checks
            .as_array()
            .unwrap()
            .iter()
            .any(|check| check["of"] == "permissions" || check["of"] == "record table")
    );
    assert!(status == 0 || status == 1, "{checks}");
    let (status, text) = run_custody(&["logs", "archive", "--contains", "a text that no line has"]);
    assert!(status == 0 && text.contains("the log of archive has no such line since 20"), "{text}");
    assert_eq!(run_custody_json(&["plan", "--rate", "10", "--size", "1MB"]).0, 0);
    assert_eq!(run_custody_json(&["open"]).0, 0);
    let (status, found) = run_custody_json(&["find", "--source", "custody-test-client", "--limit", "3"]);
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
    assert_eq!(watch_queues(&stack).await, [] as [String; 0]);

    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut watch = Command::from(custody_command("OperatorRoleArn"));
        let mut watch = watch.arg("watch").kill_on_drop(true).spawn().unwrap();
        let has_queue = async || (watch_queues(&stack).await.len() == 1).then_some(());
        stack.eventually("watch has a queue", has_queue).await;
        kill(Pid::from_raw(watch.id().unwrap().try_into().unwrap()), signal).unwrap();
        let ended = stack.eventually("watch ends", async || watch.try_wait().unwrap()).await;
        assert!(ended.success(), "{signal}: {ended}");
        assert_eq!(watch_queues(&stack).await, [] as [String; 0], "{signal}");
    }
}

/// Returns the queues of all `custody watch`es.
async fn watch_queues(stack: &Stack) -> Vec<String> {
    let sqs = stack.deployment.aws.sqs();
    let queues = sqs.list_queues().queue_name_prefix("custody-watch-").send().await.expect("SQS answers");
    queues.queue_urls().to_vec()
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
    let (_, log) = run_custody_json(&["logs", "reconcile", "--contains", "starting"]);
    assert!(log["lines"][0]["fields"]["release"].is_string(), "{log}");
    assert_eq!(run_custody(&["logs", "nobody"]).0, 2);
}

/// Loses the items of a completed record and of a discarded one, as a lost table does.
#[tokio::test]
async fn lost_items_are_rebuilt_from_the_archive() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let (_, receipt) = stack.failed_record(904).await;
    let discarded = receipt.message_id;
    stack.eventually("the dead letter is listed", async || dead_letter_line(discarded)).await;
    let discard = ["dlq", "discard", "--id", &discarded.to_string(), "--reason", "sent in error"];
    assert_eq!(run_custody_json(&discard).0, 0);
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

    let (status, report) = run_custody_json(&["fsck", "--full", "--max-per-second", "5000"]);
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
