//! The operator's tool, run with the roles of the template.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::Command,
    sync::{Mutex, PoisonError},
};

use custody_core::record_id::RecordId;
use serde_json::Value;

use crate::{environment::append_to_file, run_support_script, stack_output, variable};

/// Runs the operator's tool with the template's role for operators. Returns its exit status and what it printed.
pub fn run_custody(arguments: &[&str]) -> (i32, String) {
    run_custody_as("OperatorRoleArn", arguments)
}

/// Runs the operator's tool with the role that this output of the stack names.
pub fn run_custody_as(role: &str, arguments: &[&str]) -> (i32, String) {
    let output = custody_command(role).args(arguments).output().expect("the operator's tool starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    std::io::stderr().write_all(errors.as_bytes()).ok();
    if arguments.contains(&"--json") {
        keep_output(arguments, &output.stdout);
    }
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the operator's tool with `--json`. Returns its exit status and its output.
pub fn run_custody_json(arguments: &[&str]) -> (i32, Value) {
    let (status, text) = run_custody(&[&["--json"], arguments].concat());
    (status, serde_json::from_str(&text).unwrap_or_default())
}

/// Returns the line of `custody dlq list` that is about this record.
pub fn dead_letter_line(id: RecordId) -> Option<Value> {
    let (status, lines) = run_custody_json(&["dlq", "list"]);
    // 1: another reader hides all of the queue.
    assert!(status == 0 || status == 1, "{status}");
    lines.as_array()?.iter().find(|line| line["id"] == id.to_string()).cloned()
}

/// Returns a command that runs the operator's tool with the role that this output of the stack names.
pub fn custody_command(role: &str) -> Command {
    let mut custody = Command::new(variable("CUSTODY_CLI"));
    custody.envs(credentials_of(role));
    custody
}

/// Appends what `custody --json` has printed to a file of the stack, for the comparison with its schema. A new API key is left out.
fn keep_output(arguments: &[&str], printed: &[u8]) {
    let Ok(mut output) = serde_json::from_slice::<Value>(printed) else { return };
    if let Some(key) = output.get_mut("apiKey") {
        *key = "left out".into();
    }
    let is_word = |argument: &&&str| argument.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let words: Vec<_> = arguments.iter().filter(is_word).filter(|word| !word.starts_with('-')).collect();
    let line = serde_json::json!({"arguments": words, "output": output}).to_string();
    append_to_file("cli-outputs.jsonl", &line).expect("the stack's folder can be written");
}

/// Returns the credentials of a role, as environment variables. `role` is the output of the stack that names it.
fn credentials_of(role: &str) -> BTreeMap<String, String> {
    static KNOWN: Mutex<BTreeMap<String, BTreeMap<String, String>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(credentials) = known.get(role) {
        return credentials.clone();
    }
    let printed =
        run_support_script("assume_role.py", &[&stack_output(role)], "").expect("the role is taken on");
    let credentials: BTreeMap<_, _> = serde_json::from_str(&printed).expect("the script prints JSON");
    known.insert(role.to_owned(), credentials.clone());
    credentials
}

/// Runs a command of the operator's tool that creates an API key. Returns the key.
pub fn created_api_key(arguments: &[&str]) -> String {
    let (status, printed) = run_custody(arguments);
    assert_eq!(status, 0, "{arguments:?}");
    let created: Value = serde_json::from_str(&printed).expect("the tool prints JSON");
    created["apiKey"].as_str().expect("the tool prints the key").to_owned()
}
