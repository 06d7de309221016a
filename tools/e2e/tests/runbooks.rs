//! Breaks a part of the deployment, and follows the page of the alarm that rings then, as it stands.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{fs, path::Path};

use custody_core::receipt::Receipt;
use custody_e2e::{Denied, Stack, run_custody};
use custody_test_client::records::{Kind, Record, Size};
use serde_json::Value;
use tokio::sync::Mutex;

/// The tests look at the whole deployment, so they run one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The page of an alarm.
struct Runbook(String);

impl Runbook {
    fn of(alarm: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("docs/runbooks");
        Self(fs::read_to_string(folder.join(alarm).with_extension("md")).unwrap())
    }

    /// Returns the commands of a section, each with the text that it prints when all is well, if the page names one.
    fn commands(&self, section: &str) -> Vec<(String, String)> {
        let (_, rest) = self.0.split_once(&format!("\n## {section}\n")).expect(section);
        let text = rest.split("\n## ").next().unwrap();
        let blocks = text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
        let lines = blocks.flat_map(str::lines).map(|line| line.split_once(" # ").unwrap_or((line, "")));
        lines.map(|(command, shown)| (command.trim().to_owned(), shown.trim().to_owned())).collect()
    }

    /// Runs the commands of the section "Look". Returns what they print.
    fn look(&self) -> String {
        self.commands("Look").iter().map(|(command, _)| run(command).1).collect()
    }

    /// Runs the commands of the section "Mend", if it has any.
    fn mend(&self) {
        for (command, _) in self.commands("Mend") {
            let (status, printed) = run(&command);
            assert_eq!(status, 0, "{command}: {printed}");
        }
    }

    /// Waits until the commands of the last section print what the page promises.
    async fn is_over(&self, stack: &Stack) {
        let commands = self.commands("It is over");
        assert!(commands.iter().any(|(_, shown)| !shown.is_empty()), "the page says when it is over");
        for (command, shown) in commands {
            let done = async || {
                let (status, printed) = run(&command);
                (status == 0 && printed.contains(&shown)).then_some(())
            };
            stack.eventually(&format!("`{command}` shows `{shown}`"), done).await;
        }
    }
}

fn run(command: &str) -> (i32, String) {
    let arguments: Vec<_> = command.strip_prefix("custody ").expect(command).split_whitespace().collect();
    run_custody(&arguments)
}

/// Discards what other suites have left, so that this suite sees only what it breaks.
async fn deployment_at_rest() -> Stack {
    let stack = Stack::under_test().await;
    run("custody dlq discard --all --reason left-by-another-suite");
    let (_, failed) = run("custody --json failed --limit 10000");
    let failed: Value = serde_json::from_str(&failed).unwrap();
    for record in failed["records"].as_array().unwrap() {
        let id = record["messageID"].as_str().unwrap();
        assert_eq!(run(&format!("custody dlq discard --id {id} --reason left-by-another-suite")).0, 0);
    }
    stack
        .reconcile_until("nothing is open", async || {
            let (_, failed) = run("custody --json failed --limit 10000");
            let failed: Value = serde_json::from_str(&failed).unwrap();
            let is_decided = failed["records"].as_array().unwrap().is_empty();
            is_decided && run("custody open").1.contains("No record is in progress")
        })
        .await;
    stack
}

async fn send(stack: &Stack, seed: u64) -> Receipt {
    let record = Record::generate(Kind::Random, Size::Bytes(50_000), seed);
    stack.sender.send(&record).await.unwrap().receipt
}

fn denied(stack: &Stack, function: &str, action: &str) -> Denied {
    Denied::to(stack.deployment.output(&format!("{function}FunctionName")).unwrap(), action)
}

#[tokio::test]
async fn failed_records_and_their_dead_letters() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = deployment_at_rest().await;
    for alarm in ["FailedRecordAlarm", "DeadLetterAlarm"] {
        let runbook = Runbook::of(alarm);
        let cause = denied(&stack, "Archive", "s3:PutObject");
        let id = send(&stack, 1101).await.message_id;
        stack.execution(id).await.unwrap();
        let seen = async || {
            let seen = runbook.look();
            (seen.contains(&id.to_string()) && seen.contains("AccessDenied")).then_some(())
        };
        stack.eventually(&format!("the page of {alarm} shows record and cause"), seen).await;
        drop(cause);
        runbook.mend();
        runbook.is_over(&stack).await;
        stack
            .eventually("the record is complete", async || {
                (stack.status(id).await == "COMPLETED").then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn records_that_nothing_starts() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = deployment_at_rest().await;
    let causes = ["Ingest", "Reconcile"].map(|function| denied(&stack, function, "states:StartExecution"));
    let id = send(&stack, 1102).await.message_id;
    for alarm in ["OpenRecordAlarm", "StuckAlarm"] {
        let runbook = Runbook::of(alarm);
        let seen = async || {
            stack.reconcile().await;
            let seen = runbook.look();
            (seen.contains(&id.to_string()) && seen.contains("states:StartExecution")).then_some(())
        };
        stack.eventually(&format!("the page of {alarm} shows record and cause"), seen).await;
    }
    drop(causes);
    for alarm in ["OpenRecordAlarm", "StuckAlarm"] {
        Runbook::of(alarm).mend();
        Runbook::of(alarm).is_over(&stack).await;
    }
    assert_eq!(stack.status(id).await, "COMPLETED");
}

#[tokio::test]
async fn acceptances_that_are_only_markers() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = deployment_at_rest().await;
    let runbook = Runbook::of("MarkerAlarm");
    // Ingest remembers a producer that it has seen, also while the table of producers is away.
    send(&stack, 1100).await;
    let unseen = denied(&stack, "Reconcile", "s3:ListBucket");
    let cause = denied(&stack, "Ingest", "dynamodb:*");
    let id = send(&stack, 1103).await.message_id;
    let seen = async || {
        let seen = runbook.look();
        (seen.contains(&id.to_string()) && seen.contains("dynamodb:PutItem")).then_some(())
    };
    stack.eventually("the page shows marker and cause", seen).await;
    drop((cause, unseen));
    runbook.mend();
    runbook.is_over(&stack).await;
    stack
        .eventually("the record is complete", async || (stack.status(id).await == "COMPLETED").then_some(()))
        .await;
}

#[tokio::test]
async fn failures_that_nobody_handles() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = deployment_at_rest().await;
    let runbook = Runbook::of("FailureFunctionAlarm");
    let causes = ["Archive", "Failure"].map(|function| denied(&stack, function, "s3:PutObject"));
    let id = send(&stack, 1104).await.message_id;
    stack.execution(id).await.unwrap();
    let seen = async || {
        let seen = runbook.look();
        (seen.contains(&id.to_string()) && seen.contains("s3:PutObject")).then_some(())
    };
    stack.eventually("the page shows record and cause", seen).await;
    drop(causes);
    runbook.mend();
    runbook.is_over(&stack).await;
    assert_eq!(stack.status(id).await, "COMPLETED");
}

#[tokio::test]
async fn a_reconcile_that_fails() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = deployment_at_rest().await;
    let runbook = Runbook::of("ReconcileErrorAlarm");
    let cause = denied(&stack, "Reconcile", "dynamodb:Query");
    let seen = async || {
        stack.reconcile().await;
        runbook.look().contains("dynamodb:Query").then_some(())
    };
    stack.eventually("the page shows the cause", seen).await;
    drop(cause);
    runbook.mend();
    runbook.is_over(&stack).await;
}
