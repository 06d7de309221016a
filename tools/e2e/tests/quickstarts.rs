//! Runs the programs of `docs/quickstart.md` from the text of that page.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use custody_e2e::{Principal, Stack, variable};
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The words that each program prints at its end.
const DONE: &str = "has the bytes that were sent";

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("docs/quickstart.md");
    fs::read_to_string(path).unwrap()
}

/// Returns the programs of the page that are written in this language.
fn programs(language: &str) -> Vec<String> {
    let (page, begin) = (page(), format!("```{language}\n"));
    page.split(&begin).skip(1).map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// Runs a program with the environment that the page names, and checks what it prints.
async fn run(mut command: Command, folder: &Path, program: &str) {
    // A program sends each request once, so no compiler may keep the stack from answering.
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let producer = Principal::add(&["--source", "quickstart"]);
    command
        .current_dir(folder)
        .env("CUSTODY_URL", stack.deployment.output("IngestUrl").unwrap())
        .env("CUSTODY_API_KEY", &producer.api_key)
        // curl and node have settings of their own for the authority of the local stack.
        .env("CURL_CA_BUNDLE", variable("SSL_CERT_FILE"))
        .env("NODE_EXTRA_CA_CERTS", variable("SSL_CERT_FILE"));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.unwrap_or_else(|error| panic!("{error}: {program}"));
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && printed.contains(DONE),
        "{program}\nprinted: {printed}\nerrors: {errors}"
    );
}

/// Whether a program that a quick start needs is not on this machine. Says so, because the quick start is not run then.
fn is_missing(program: &str) -> bool {
    let is_missing = Command::new(program).arg("--version").output().is_err();
    if is_missing {
        eprintln!("SKIPPED: {program} is not installed, so its quick start was not run");
    }
    is_missing
}

fn file(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path
}

#[tokio::test]
async fn curl_sends_a_record_and_reads_it_back() {
    if is_missing("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for program in programs("sh") {
        let mut command = Command::new("sh");
        command.arg("-e").arg(file(folder.path(), "quickstart.sh", &program));
        run(command, folder.path(), &program).await;
    }
}

#[tokio::test]
async fn python_sends_records_of_both_sizes_and_reads_them_back() {
    let folder = tempfile::tempdir().unwrap();
    let programs = programs("python");
    assert_eq!(programs.len(), 2);
    for program in programs {
        let mut command = Command::new(variable("CUSTODY_PYTHON"));
        command.arg(file(folder.path(), "quickstart.py", &program));
        run(command, folder.path(), &program).await;
    }
}

#[tokio::test]
async fn typescript_sends_a_record_and_reads_it_back() {
    if is_missing("node") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for program in programs("typescript") {
        let mut command = Command::new("node");
        // The program is valid JavaScript, too.
        command.arg(file(folder.path(), "quickstart.mjs", &program));
        run(command, folder.path(), &program).await;
    }
}

#[tokio::test]
async fn rust_sends_a_record_and_reads_it_back() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test_client/examples/quickstart.rs");
    // The examples of this workspace choose the provider of cryptography themselves.
    let provider = "    drop(rustls::crypto::ring::default_provider().install_default());\n";
    let compiled = fs::read_to_string(example).unwrap().replace(provider, "");
    for program in programs("rust") {
        assert!(
            compiled.contains(&program),
            "test_client/examples/quickstart.rs has another program than the page"
        );
        let mut command = Command::new(env!("CARGO"));
        command.args([
            "run",
            "--quiet",
            "--locked",
            "--package",
            "custody-test-client",
            "--example",
            "quickstart",
        ]);
        run(command, Path::new(env!("CARGO_MANIFEST_DIR")), &program).await;
    }
}
