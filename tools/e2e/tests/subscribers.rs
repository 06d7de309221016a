//! Applies the filter policies, the template and the consumers of `docs/subscribers.md`, and reads the queues that the stack makes for
//! subscribers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader},
    ops::RangeInclusive,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
};

use aws_sdk_sqs::types::QueueAttributeName;
use custody_core::record_id::RecordId;
use custody_e2e::{Denied, PATIENCE, Stack, run_support_script, variable};
use custody_test_client::queue;
use serde_json::{Value, json};

/// Held by the tests that send records, because one of them makes records fail.
static RECORDS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const ALL_TYPES: [&str; 4] = ["received", "archived", "metadata-stored", "completed"];

/// Returns the blocks of the page in this language.
fn blocks(language: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/subscribers.md");
    let (page, begin) = (fs::read_to_string(page).unwrap(), format!("```{language}\n"));
    page.split(&begin).skip(1).map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// A record that the filter policies tell apart.
#[derive(Clone, Copy)]
struct Sent {
    source: &'static str,
    message_type: &'static str,
    transaction: &'static str,
}

const DECISION: Sent = Sent { source: "loans", message_type: "decision", transaction: "batch-7-1" };
const PICTURE: Sent = Sent { source: "cards-eu", message_type: "picture", transaction: "other-1" };

async fn send(stack: &Stack, record: Sent) -> RecordId {
    let body = json!({
        "messageMetaData": {
            "messageType": record.message_type,
            "sourceSystemID": record.source,
            "sourceTransactionID": record.transaction,
            "dateTime": "2026-11-20T22:21:00Z",
        },
        "messagePayload": "the input of a decision",
        "payloadEncoding": "utf8",
    });
    let headers = &[("content-type", "application/json")];
    let answer = stack.sender.post(headers, body.to_string()).await.unwrap();
    answer.json()["messageID"].as_str().unwrap().parse().unwrap()
}

/// Returns the short name of a notification's type: `completed`.
fn short_type(event: &Value) -> String {
    let full = event["type"].as_str().unwrap();
    full.strip_prefix("custody.message.").unwrap().strip_suffix(".v1").unwrap().to_owned()
}

/// What has arrived on a queue: the types by record.
type Arrived = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

fn read(stack: &Stack, url: String) -> Arrived {
    let arrived = Arrived::default();
    let noted = Arc::clone(&arrived);
    queue::read_in_background(stack.deployment.aws.clone(), url, move |message| {
        let event: Value = serde_json::from_str(message.body().unwrap()).unwrap();
        let subject = event["subject"].as_str().unwrap().to_owned();
        noted.lock().unwrap().entry(subject).or_default().insert(short_type(&event));
    })
    .unwrap();
    arrived
}

fn types_of(arrived: &Arrived, id: RecordId) -> BTreeSet<String> {
    arrived.lock().unwrap().get(&id.to_string()).cloned().unwrap_or_default()
}

fn names(types: &[&str]) -> BTreeSet<String> {
    types.iter().map(ToString::to_string).collect()
}

/// Returns the template of the page.
fn template() -> String {
    let [template] = blocks("yaml").try_into().unwrap();
    template
}

/// Deploys a template with a filter policy. Returns the URL of the queue.
fn deploy_queue(stack: &Stack, template: &str, name: &str, policy: &str, scope: &str) -> String {
    let topic = stack.deployment.output("TopicArn").unwrap();
    run_support_script("subscribe.py", &[name, topic, policy, scope], template).unwrap()
}

#[tokio::test]
async fn each_filter_policy_of_the_page_selects_what_the_page_says() {
    let _alone = RECORDS.lock().await;
    let stack = Stack::under_test().await;
    let (final_types, after_received) = (&["completed"][..], &ALL_TYPES[1..]);
    let expected: [(&[&str], &[&str]); 7] = [
        (final_types, final_types),
        (&ALL_TYPES, &[]),
        (&[], &ALL_TYPES),
        (final_types, &[]),
        (after_received, after_received),
        (&ALL_TYPES, &ALL_TYPES),
        (final_types, &[]),
    ];
    let policies = blocks("json");
    assert_eq!(policies.len(), expected.len());
    let queues: Vec<_> = policies
        .iter()
        .enumerate()
        .map(|(number, policy)| {
            let scope = if policy.contains("\"data\"") { "MessageBody" } else { "MessageAttributes" };
            read(&stack, deploy_queue(&stack, &template(), &format!("subscriber-{number}"), policy, scope))
        })
        .collect();

    let (decision, picture) = (send(&stack, DECISION).await, send(&stack, PICTURE).await);
    stack.follow(decision).await.unwrap();
    stack.follow(picture).await.unwrap();
    for ((policy, arrived), (of_decision, of_picture)) in policies.iter().zip(&queues).zip(expected) {
        for (id, expected) in [(decision, names(of_decision)), (picture, names(of_picture))] {
            stack
                .eventually(&format!("{expected:?} of {id} with {policy}"), async || {
                    (types_of(arrived, id) == expected).then_some(())
                })
                .await;
        }
    }
    // The topic has sent every notification of both records. A wrong one would have arrived by now with those that were
    // awaited.
    for ((policy, arrived), (of_decision, of_picture)) in policies.iter().zip(&queues).zip(expected) {
        assert_eq!(types_of(arrived, decision), names(of_decision), "{policy}");
        assert_eq!(types_of(arrived, picture), names(of_picture), "{policy}");
    }
}

#[tokio::test]
async fn the_queues_of_the_stack_get_what_their_parameters_select() {
    let _alone = RECORDS.lock().await;
    let stack = Stack::under_test().await;
    let failed = read(&stack, stack.deployment.output("SubscriberQueueUrl1").unwrap().to_owned());
    let cards = read(&stack, stack.deployment.output("SubscriberQueueUrl2").unwrap().to_owned());
    let picture = send(&stack, PICTURE).await;
    stack.follow(picture).await.unwrap();
    stack
        .eventually("the notifications of a picture", async || {
            (types_of(&cards, picture) == names(&ALL_TYPES)).then_some(())
        })
        .await;
    assert_eq!(types_of(&failed, picture), names(&[]));

    let metadata = stack.deployment.output("MetadataFunctionName").unwrap();
    let denied = Denied::to(metadata, "dynamodb:PutItem");
    let decision = send(&stack, DECISION).await;
    stack
        .eventually("the notification of a failure", async || {
            (types_of(&failed, decision) == names(&["failed"])).then_some(())
        })
        .await;
    drop(denied);
    assert_eq!(types_of(&cards, decision), names(&[]));
}

/// A consumer of the page, which runs until this value is dropped.
struct Consumer {
    process: Child,
    lines: Receiver<String>,
}

impl Consumer {
    fn start(mut command: Command, folder: &Path, url: &str) -> Self {
        let mut process =
            command.current_dir(folder).env("QUEUE_URL", url).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    fn next_line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the consumer prints a line")
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Waits until a queue has this many messages, those included that a consumer hides.
async fn has_messages(stack: &Stack, url: &str, wanted: RangeInclusive<u32>) {
    let names = vec![
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
    ];
    let counted = async || {
        let sqs = stack.deployment.aws.sqs();
        let asked = sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.clone()));
        let counts = asked.send().await.unwrap().attributes.unwrap();
        wanted
            .contains(&counts.values().map(|count| count.parse::<u32>().unwrap()).sum::<u32>())
            .then_some(())
    };
    stack.eventually(&format!("the queue has {wanted:?} messages"), counted).await;
}

/// Sends two notifications to a consumer, the first of them twice, and checks that it handles each once, also after a restart.
async fn check_consumer(name: &str, command: impl Fn() -> Command) {
    let stack = Stack::under_test().await;
    let folder = tempfile::tempdir().unwrap();
    // A message that a consumer got and did not delete comes again soon.
    let template = template().replace("VisibilityTimeout: 120", "VisibilityTimeout: 10");
    let url = deploy_queue(&stack, &template, name, r#"{"sourceSystemID":["nobody"]}"#, "MessageAttributes");
    let put = async |id: &str| {
        let event = json!({"id": id, "type": "custody.message.completed.v1", "subject": id});
        let sqs = stack.deployment.aws.sqs();
        sqs.send_message().queue_url(&url).message_body(event.to_string()).send().await.unwrap();
    };
    let line = |id: &str| format!("custody.message.completed.v1 {id}");

    let consumer = Consumer::start(command(), folder.path(), &url);
    put("first/completed/1").await;
    assert_eq!(consumer.next_line(), line("first/completed/1"));
    put("first/completed/1").await;
    put("second/completed/1").await;
    assert_eq!(consumer.next_line(), line("second/completed/1"));
    has_messages(&stack, &url, 0..=0).await;
    drop(consumer);

    let consumer = Consumer::start(command(), folder.path(), &url);
    put("first/completed/1").await;
    // What is not of Custody ends no consumer, and is left for the dead-letter queue.
    let sqs = stack.deployment.aws.sqs();
    for foreign in ["no JSON", "[]", r#"{"id": 1}"#, r#"{"id": "of EventBridge"}"#] {
        sqs.send_message().queue_url(&url).message_body(foreign).send().await.unwrap();
    }
    put("third/completed/1").await;
    assert_eq!(consumer.next_line(), line("third/completed/1"));
    put("fourth/completed/1").await;
    assert_eq!(consumer.next_line(), line("fourth/completed/1"));
    has_messages(&stack, &url, 4..=5).await;
}

#[tokio::test]
async fn the_python_consumer_handles_each_notification_once() {
    let folder = tempfile::tempdir().unwrap();
    let [program] = blocks("python").try_into().unwrap();
    let file = folder.path().join("consumer.py");
    fs::write(&file, program).unwrap();
    let command = || {
        let mut command = Command::new(variable("CUSTODY_PYTHON"));
        command.arg(&file);
        command
    };
    check_consumer("python-consumer", command).await;
}

#[tokio::test]
async fn the_rust_consumer_handles_each_notification_once() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiled = fs::read_to_string(folder.join("../../test_client/examples/subscriber.rs")).unwrap();
    let [program] = blocks("rust").try_into().unwrap();
    assert!(
        compiled.contains(&program),
        "test_client/examples/subscriber.rs has another program than the page"
    );
    let cargo = |verb: &str| {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(folder).args([verb, "--quiet", "--locked", "--package", "custody-test-client"]);
        command.args(["--example", "subscriber", "--message-format", "json"]);
        command
    };
    let output = cargo("build").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let program = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| Some(message["executable"].as_str()?.to_owned()));
    let program = program.expect("cargo names the program that it has built");
    check_consumer("rust-consumer", || Command::new(&program)).await;
}
