//! Tests what operators do with failed records and their dead letters on a real deployment: from the list to the completed or discarded
//! record, and what the tool must not allow.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    testing::{contract, samples},
};
use custody_e2e::{Denied, Stack, custody_command, dead_letter_line, run_custody, run_custody_json};
use custody_test_client::verify;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

/// The tests run one after the other. Whether the first of them has begun.
static ONE_AT_A_TIME: Mutex<bool> = Mutex::const_new(false);

/// Returns the stack for one test alone. The first one discards what other suites have left, which `--all` would select as well.
async fn stack_alone() -> (MutexGuard<'static, bool>, Stack) {
    let mut has_begun = ONE_AT_A_TIME.lock().await;
    let stack = if *has_begun { Stack::under_test().await } else { Stack::at_rest().await };
    *has_begun = true;
    (has_begun, stack)
}

/// Returns whether Step Functions stores a history of executions. It does not for an `EXPRESS` workflow.
fn has_execution_history(stack: &Stack) -> bool {
    stack.deployment.output("StateMachineType").unwrap() == "STANDARD"
}

/// Returns the statuses of a record's executions. They are empty if there is no history.
fn execution_statuses(name: &str) -> Vec<String> {
    let (_, trace) = run_custody_json(&["trace", name]);
    let executions = trace["executions"]["list"].as_array().unwrap().iter();
    executions.map(|execution| execution["status"].as_str().unwrap().to_owned()).collect()
}

async fn put_dead_letter(stack: &Stack, queue: &str, body: &str) {
    let url = stack.deployment.output(queue).unwrap();
    stack.deployment.aws.sqs().send_message().queue_url(url).message_body(body).send().await.unwrap();
}

/// Waits until a log has a line with both texts.
async fn redrive_function_says(stack: &Stack, name: &str, text: &str) {
    stack.logged(name, |log| log.iter().any(|line| line.contains(text))).await;
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
    let (_alone, stack) = stack_alone().await;
    let began = SystemClock.now().to_string();
    let (record, receipt) = stack.failed_record(901).await;
    let id = receipt.message_id;
    let name = id.to_string();
    let found = stack.eventually("the dead letter is listed", async || dead_letter_line(id)).await;
    assert_eq!(
        (&found["stage"], &found["kind"], &found["attempt"]),
        (&"archive".into(), &"Internal".into(), &1.into())
    );
    check_lists_for_people(&name);
    let (status, dead_letters) = run_custody_json(&["dlq", "show", &name]);
    assert_eq!((status, &dead_letters[0]["messageID"]), (0, &name.as_str().into()));
    let dead_letter = dead_letters[0].to_string();
    let (status, trace) = run_custody_json(&["trace", &name]);
    assert_eq!((status, &trace["item"]["status"]), (0, &"FAILED".into()));
    assert_eq!(trace["payload"]["preserved"]["sha256"], record.sha256().to_string());
    if has_execution_history(&stack) {
        let first = &trace["executions"]["list"][0];
        assert_eq!((&first["status"], &first["error"]), (&"FAILED".into(), &"AccessDenied".into()));
        assert!(first["states"].as_array().unwrap().len() > 3, "{trace}");
    } else {
        assert_eq!(trace["executions"], json!({"history": false, "list": []}));
    }
    let (status, undecided) = run_custody_json(&["failed"]);
    assert_eq!(status, 0);
    assert!(undecided["records"].to_string().contains(&name), "{undecided}");

    // A dry run changes nothing.
    let (status, summary) = run_custody_json(&["dlq", "redrive", "--id", &name, "--dry-run"]);
    assert_eq!((status, &summary["redriven"]), (0, &json!([name])));
    assert!(dead_letter_line(id).is_some());

    // A record that is redriven while the cause still exists fails again, and its dead letter has the history.
    let denied = Denied::to(stack.deployment.output("ArchiveFunctionName").unwrap(), "s3:PutObject");
    let (status, summary) = run_custody_json(&["dlq", "redrive", "--id", &name, "--now", "--wait"]);
    assert_eq!(
        (status, &summary["ends"]),
        (1, &json!({"completed": 0, "failedAgain": [name], "discarded": [], "stillWaiting": []}))
    );
    let again = async || dead_letter_line(id).filter(|line| line["attempt"] == 2);
    stack.eventually("it fails again", again).await;
    let (_, dead_letters) = run_custody_json(&["dlq", "show", &name]);
    assert_eq!(dead_letters[0]["history"][0]["attempt"], 1, "{dead_letters}");
    drop(denied);

    // After the cause is gone, the record completes under the same id with the same bytes.
    let by_stage = ["dlq", "redrive", "--stage", "archive", "--since", &began, "--now", "--wait"];
    let (status, summary) = run_custody_json(&by_stage);
    assert_eq!((status, &summary["ends"]["completed"]), (0, &1.into()), "{summary}");
    assert_eq!(stack.status(id).await, "COMPLETED");
    let bucket = stack.deployment.output("ArchiveBucket").unwrap();
    assert_eq!(verify::object(&stack.deployment, bucket, &id.archive_key()).await.unwrap(), record.payload);
    assert!(dead_letter_line(id).is_none(), "the dead letter is gone");
    let expected: &[&str] =
        if has_execution_history(&stack) { &["FAILED", "FAILED", "SUCCEEDED"] } else { &[] };
    assert_eq!(execution_statuses(&name), expected);
    stack.reconcile_until("the record is closed", async || !stack.is_open(id).await).await;

    // A dead letter that is delivered once more has no effect.
    put_dead_letter(&stack, "RedriveQueueUrl", &dead_letter).await;
    redrive_function_says(&stack, &name, "COMPLETED already").await;
    assert_eq!(execution_statuses(&name), expected, "it is not run again");
    assert_eq!(stack.status(id).await, "COMPLETED");
}

/// SQS hides the messages that a reader has received, for minutes.
#[tokio::test]
async fn a_list_that_is_broken_off_hides_no_dead_letter() {
    let (_alone, stack) = stack_alone().await;
    let (_, receipt) = stack.failed_record(908).await;
    let id = receipt.message_id;
    stack.eventually("the dead letter is listed", async || dead_letter_line(id)).await;
    let list = || {
        let mut list = custody_command("OperatorRoleArn");
        list.args(["dlq", "list"]).stdout(Stdio::piped()).spawn().unwrap()
    };
    // As in `custody dlq list | true`.
    let mut read_by_nobody = list();
    drop(read_by_nobody.stdout.take());
    read_by_nobody.wait().unwrap();
    assert!(dead_letter_line(id).is_some());
    // As with Ctrl-C, while it waits for the end of the queue.
    let mut broken_off = list();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let pid = broken_off.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    broken_off.wait().unwrap();
    assert!(dead_letter_line(id).is_some());
    assert_eq!(
        run_custody_json(&["dlq", "discard", "--id", &id.to_string(), "--reason", "made by a test"]).0,
        0
    );
    // Reconcile has not closed it yet, or has: nobody is asked to decide again.
    let (_, undecided) = run_custody_json(&["failed", "--limit", "10000"]);
    let still = undecided["records"].as_array().unwrap().iter().find(|r| r["messageID"] == id.to_string());
    assert!(still.is_none_or(|record| record["discarded"] == true), "{still:?}");
}

/// A redrive that waits: SQS shows nobody the messages that it delays or hides.
#[tokio::test]
async fn a_record_that_waits_for_its_redrive_is_seen_everywhere() {
    let (_alone, stack) = stack_alone().await;
    let (_, receipt) = stack.failed_record(906).await;
    let id = receipt.message_id;
    let name = id.to_string();
    stack.eventually("the dead letter is listed", async || dead_letter_line(id)).await;
    let is_listed = |filter: &[&str]| {
        let (_, lines) = run_custody_json(&[&["dlq", "list"], filter].concat());
        lines.as_array().unwrap().iter().any(|line| line["id"] == name.as_str())
    };
    assert!(is_listed(&["--stage", "archive", "--kind", "internal", "--since", "1h"]));
    assert!(!is_listed(&["--stage", "metadata"]));
    let trace = run_custody(&["trace", &name]).1;
    assert!(trace.contains(&format!("custody dlq redrive --id {name} --now --wait")), "{trace}");
    assert!(trace.contains("helps: mend the cause, then redrive"), "{trace}");

    // The redrive function cannot begin the attempt, so the redrive waits for SQS to deliver it again.
    let denied = Denied::to(stack.deployment.output("RedriveFunctionName").unwrap(), "dynamodb:*");
    let (status, text) = run_custody(&["dlq", "redrive", "--id", &name, "--now"]);
    assert!(status == 0 && text.contains("1 record sent to the redrive queue"), "{text}");
    assert!(dead_letter_line(id).is_none(), "its dead letter has left the queue");
    let (_, undecided) = run_custody_json(&["failed", "--limit", "10000"]);
    let records = undecided["records"].as_array().unwrap();
    let failed = records.iter().find(|record| record["messageID"] == name.as_str()).unwrap();
    assert!(failed["redriveAt"].is_string(), "{failed}");
    assert_eq!(failed["remedy"], "mend-then-redrive");
    assert!(run_custody_json(&["trace", &name]).1["open"]["redriveAt"].is_string());
    for command in [&["failed", "--limit", "10000"][..], &["trace", &name], &["dlq", "list"]] {
        let (_, text) = run_custody(command);
        assert!(text.contains(&name) && text.contains("redrive due"), "{command:?}: {text}");
    }
    let (status, screen) = run_custody_json(&["status"]);
    assert_eq!(status, 0);
    assert!(screen["failures"]["redrivesNoted"].as_u64() > Some(0), "{screen}");
    drop(denied);

    // It is redriven again, from its open record. The first message finds a later attempt when SQS delivers it.
    let (status, summary) = run_custody_json(&["dlq", "redrive", "--id", &name, "--now", "--wait"]);
    assert_eq!((status, &summary["ends"]["completed"]), (0, &1.into()), "{summary}");
}

#[tokio::test]
async fn a_record_whose_dead_letter_has_expired_can_still_be_redriven() {
    let (_alone, stack) = stack_alone().await;
    let (record, receipt) = stack.failed_record(904).await;
    let id = receipt.message_id;
    stack.eventually("the dead letter is listed", async || dead_letter_line(id)).await;
    let queue = stack.deployment.output("DeadLetterQueueUrl").unwrap();
    custody_e2e::run_support_script("fill_queue.py", &[queue, "--purge"], "").unwrap();
    assert!(dead_letter_line(id).is_none());
    let (status, summary) = run_custody_json(&["dlq", "redrive", "--id", &id.to_string(), "--now"]);
    assert_eq!((status, &summary["redriven"]), (0, &json!([id])));
    stack.eventually("it completes", async || (stack.status(id).await == "COMPLETED").then_some(())).await;
    let bucket = stack.deployment.output("ArchiveBucket").unwrap();
    assert_eq!(verify::object(&stack.deployment, bucket, &id.archive_key()).await.unwrap(), record.payload);
}

/// Another reader hides a dead letter for minutes: an operator who lists the queue, or a tool that died.
#[tokio::test]
async fn a_record_whose_dead_letter_is_hidden_is_redriven_and_the_copy_is_deleted_later() {
    let (_alone, stack) = stack_alone().await;
    let queue = stack.deployment.output("DeadLetterQueueUrl").unwrap();
    custody_e2e::run_support_script("fill_queue.py", &[queue, "--purge"], "").unwrap();
    // A message that is hidden and no dead letter cannot be handled: that is no success.
    put_dead_letter(&stack, "DeadLetterQueueUrl", "hello, this is not JSON").await;
    let foreign = hide_message(&stack, queue, "hello").await;
    let began = SystemClock.now().to_string();
    assert_eq!(run_custody_json(&["dlq", "redrive", "--since", &began]).0, 1);
    stack
        .deployment
        .aws
        .sqs()
        .delete_message()
        .queue_url(queue)
        .receipt_handle(foreign)
        .send()
        .await
        .unwrap();

    let (_, receipt) = stack.failed_record(909).await;
    let id = receipt.message_id;
    stack.eventually("the dead letter is listed", async || dead_letter_line(id)).await;
    let hidden = hide_message(&stack, queue, &id.to_string()).await;
    assert!(dead_letter_line(id).is_none());
    let select = ["dlq", "redrive", "--stage", "archive", "--since", &began];
    let (status, summary) = run_custody_json(&[&select[..], &["--dry-run"]].concat());
    assert_eq!((status, &summary["redriven"]), (0, &json!([id])), "{summary}");
    let (status, summary) = run_custody_json(&[&select[..], &["--now", "--wait"]].concat());
    assert_eq!((status, &summary["ends"]["completed"]), (0, &1.into()), "{summary}");
    assert_eq!(summary["withoutDeadLetter"], json!([id]), "{summary}");

    // Its dead letter is visible again, and nobody needs it.
    let sqs = stack.deployment.aws.sqs();
    let show = sqs.change_message_visibility().queue_url(queue).receipt_handle(hidden);
    show.visibility_timeout(0).send().await.unwrap();
    stack.eventually("the dead letter is listed", async || dead_letter_line(id)).await;
    let (status, summary) = run_custody_json(&select);
    assert_eq!((status, &summary["redriven"], &summary["stale"]), (0, &json!([]), &json!([id])), "{summary}");
    assert!(dead_letter_line(id).is_none());
    assert_eq!(stack.status(id).await, "COMPLETED");
}

/// Receives from a queue until a message contains this text, and hides that message for ten minutes. Returns its receipt handle.
async fn hide_message(stack: &Stack, queue: &str, text: &str) -> String {
    let sqs = stack.deployment.aws.sqs();
    let mut others = Vec::new();
    let found = async || {
        let receive = sqs.receive_message().queue_url(queue).visibility_timeout(600).wait_time_seconds(1);
        let received = receive.send().await.unwrap();
        let message = received.messages().first()?;
        let handle = message.receipt_handle().unwrap().to_owned();
        if message.body().unwrap().contains(text) {
            return Some(handle);
        }
        others.push(handle);
        None
    };
    let hidden = stack.eventually("the message is hidden", found).await;
    for handle in others {
        let show = sqs.change_message_visibility().queue_url(queue).receipt_handle(handle);
        show.visibility_timeout(0).send().await.unwrap();
    }
    hidden
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_redriven_comes_back_and_one_that_is_not_ours_is_left_alone() {
    let (_alone, stack) = stack_alone().await;
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
    let (status, summary) = run_custody_json(&["dlq", "redrive", "--all", "--now"]);
    assert_eq!(status, 1, "some are left: {summary}");
    assert!(summary["redriven"].as_array().unwrap().contains(&id.as_str().into()), "{summary}");
    assert_eq!(summary["foreign"].as_array().unwrap().len(), 2, "{summary}");
    assert!(
        summary["requests"].as_array().unwrap().is_empty(),
        "a rejected request is no dead letter: {summary}"
    );
    let came_back = async || {
        dead_letter_line(message.message_id).filter(|_| {
            let (_, dead_letters) = run_custody_json(&["dlq", "show", &id]);
            dead_letters[0]["unfinished"].to_string().contains("is not open")
        })
    };
    stack.eventually("the dead letter comes back with a reason", came_back).await;
    let request_id =
        rejected.json()["instance"].as_str().unwrap().trim_start_matches("urn:custody:request:").to_owned();
    let listed =
        async || run_custody_json(&["rejected", "list"]).1.to_string().contains(&request_id).then_some(());
    stack.eventually("the rejected request is listed", listed).await;
    let (status, shown) = run_custody_json(&["rejected", "show", &request_id]);
    assert!(status == 0 && shown[0]["storedRequest"].is_object(), "{shown}");
    let (status, discarded) =
        run_custody_json(&["rejected", "discard", "--id", &request_id, "--reason", "made by a test"]);
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
    let (_alone, stack) = stack_alone().await;
    let (_, receipt) = stack.failed_record(902).await;
    let id = receipt.message_id;
    let name = id.to_string();
    stack.eventually("the dead letter is listed", async || dead_letter_line(id)).await;
    let (_, dead_letters) = run_custody_json(&["dlq", "show", &name]);
    let of_archive =
        |line: &String| line.contains(r#""Function":"archive""#) && line.contains("AccessDenied");
    stack.logged("StageErrors", |metrics| metrics.iter().any(of_archive)).await;
    let (status, log) = run_custody_json(&["logs", "archive", "--warnings", "--contains", "AccessDenied"]);
    assert_eq!((status, &log["lines"][0]["level"]), (0, &"ERROR".into()), "{log}");
    assert_eq!(
        run_custody_json(&["dlq", "discard", "--id", &name, "--reason", "the decision was withdrawn"]).0,
        0
    );
    assert!(dead_letter_line(id).is_none());
    let item = verify::item(&stack.deployment, id).await.unwrap();
    let discarded = &item["discarded"];
    assert_eq!(discarded["reason"], "the decision was withdrawn");
    assert!(discarded["by"].as_str().unwrap().starts_with("arn:"), "{discarded}");
    assert!(Timestamp::parse(discarded["at"].as_str().unwrap()).is_some());
    // Who discards it once more, as a copy of its dead letter, is told of the first decision.
    put_dead_letter(&stack, "DeadLetterQueueUrl", &dead_letters[0].to_string()).await;
    stack.eventually("the copy is listed", async || dead_letter_line(id)).await;
    let again = ["dlq", "discard", "--id", &name, "--reason", "another reason"];
    let again = custody_command("OperatorRoleArn").args(again).output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() && said.contains("was discarded before, by arn:"), "{said}");
    assert!(said.contains("with the reason \"the decision was withdrawn\", which stays"), "{said}");
    let item = verify::item(&stack.deployment, id).await.unwrap();
    assert_eq!(item["discarded"]["reason"], "the decision was withdrawn");
    // Whether reconcile has closed it or not, only `--force` redrives it: without it, nothing would come of waiting.
    assert_eq!(run_custody_json(&["dlq", "redrive", "--id", &name, "--now", "--wait"]).0, 3);
    // A copy of its dead letter does not cause another attempt.
    put_dead_letter(&stack, "RedriveQueueUrl", &dead_letters[0].to_string()).await;
    redrive_function_says(&stack, &name, "discarded").await;
    assert_eq!(stack.status(id).await, "FAILED");
    stack.reconcile_until("the decision closes the record", async || !stack.is_open(id).await).await;
    stack.announced(id, "discarded").await;
}

#[tokio::test]
async fn a_queue_with_ten_thousand_messages_can_be_listed_and_sorted() {
    let (_alone, stack) = stack_alone().await;
    custody_e2e::run_support_script(
        "fill_queue.py",
        &[stack.deployment.output("DeadLetterQueueUrl").unwrap(), "10000"],
        "",
    )
    .unwrap();
    let (status, lines) = run_custody_json(&["dlq", "list"]);
    assert_eq!(status, 0);
    let lines = lines.as_array().unwrap().iter().filter(|line| line["errorName"] == "MadeByATest");
    let listed: std::collections::BTreeSet<_> = lines.map(|line| line["id"].to_string()).collect();
    assert_eq!(listed.len(), 10_000);
    // The messages are on the queue again for the next reader, and none of them belongs to a record.
    let (status, summary) =
        run_custody_json(&["dlq", "redrive", "--kind", "Conflict", "--dry-run", "--max-per-second", "1000"]);
    assert_eq!((status, summary["requests"].as_array().unwrap().len()), (1, 10_000));
    custody_e2e::run_support_script(
        "fill_queue.py",
        &[stack.deployment.output("DeadLetterQueueUrl").unwrap(), "--purge"],
        "",
    )
    .unwrap();
}
