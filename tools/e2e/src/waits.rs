//! Waits: for what becomes true some time after an answer, and for the work of reconcile.

use std::time::{Duration, Instant};

use custody_test_client::sender::Answer;
use serde_json::Value;

use crate::{PATIENCE, Stack, run_custody, run_custody_json, run_support_script};

impl Stack {
    /// Returns the stack after what other suites have left was discarded, and nothing is open any more.
    pub async fn at_rest() -> Self {
        let stack = Self::under_test().await;
        let discard = |which: &[&str]| {
            let reason = ["--reason", "left by another suite"];
            let (status, printed) = run_custody(&[&["dlq", "discard"], which, &reason].concat());
            // Reconcile closes what an earlier command has discarded: it is gone then.
            assert!([0, 1, 3].contains(&status), "{status}: {printed}");
        };
        discard(&["--all"]);
        stack
            .reconcile_until("nothing is open", async || {
                let (_, failed) = run_custody_json(&["failed", "--limit", "10000"]);
                let failed = failed["records"].as_array().expect("`custody failed` has a list");
                let undecided = failed.iter().filter(|record| record["discarded"] != true);
                let ids: Vec<_> = undecided.filter_map(|record| record["messageID"].as_str()).collect();
                if !ids.is_empty() {
                    discard(&ids.iter().flat_map(|id| ["--id", id]).collect::<Vec<_>>());
                    return false;
                }
                let (_, open) = run_custody_json(&["open", "--limit", "10000"]);
                let mut records = open["records"].as_array().expect("`custody open` has a list").iter();
                // What a contract suite has left that failed is due in 2100.
                let is_due =
                    |record: &Value| !record["lookAt"].as_str().is_some_and(|at| at.starts_with("2100"));
                failed.is_empty() && open["markersCount"] == 0 && !records.any(is_due)
            })
            .await;
        stack
    }

    /// Waits until `holds` returns a value, or fails after [`PATIENCE`].
    pub async fn eventually<T>(&self, what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = holds().await {
                return value;
            }
            assert!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the lines of all logs that contain a text satisfy `holds`, and returns them. Logs are written some time after an answer.
    pub async fn logged(&self, text: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        self.eventually(&format!("the log of {text}"), async || {
            let printed = run_support_script("logs_containing.py", &[text], "").expect("logs are readable");
            let lines: Vec<_> = printed.lines().map(str::to_owned).collect();
            holds(&lines).then_some(lines)
        })
        .await
    }

    /// Waits until a stage has logged that it refused a request, under the id that the answer gives to the caller.
    pub async fn refusal_logged(&self, stage: &str, answer: &Answer) {
        let problem = answer.json();
        let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        let (instance, kind) = (text("instance"), text("type"));
        let request_id = instance.trim_start_matches("urn:custody:request:");
        assert!(!request_id.is_empty(), "the answer names its request: {}", answer.body);
        let parts = [
            r#""message":"refused a request""#.to_owned(),
            format!(r#""stage":"{stage}""#),
            format!(r#""problem":"{}""#, kind.trim_start_matches("urn:custody:problem:")),
        ];
        let says_so = |line: &String| parts.iter().all(|part| line.contains(part));
        self.logged(request_id, |log| log.iter().any(says_so)).await;
    }

    /// Runs reconcile until `done` returns `true`. Tests of other records may run at the same time.
    pub async fn reconcile_until(&self, what: &str, done: impl AsyncFn() -> bool) {
        self.eventually(what, async || {
            if done().await {
                return Some(());
            }
            self.reconcile().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            None
        })
        .await;
    }

    /// Runs reconcile once, as the schedule does. Ignores a failure of that run, which is normal in an outage.
    pub async fn reconcile(&self) {
        let name = self.deployment.output("ReconcileFunctionName").expect("the stack has it");
        self.deployment.aws.lambda().invoke().function_name(name).send().await.ok();
    }
}
