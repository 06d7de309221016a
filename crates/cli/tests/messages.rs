//! What the tool says to a person before it asks any service: help, wrong usage, and plans. The texts are in `cmd/`. After a change that is
//! meant, `TRYCMD=overwrite cargo test -p custody-cli --test messages` writes them anew.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

#[test]
fn the_tool_says_what_is_written_down() {
    trycmd::TestCases::new().env("NO_COLOR", "1").env("COLUMNS", "100").case("tests/cmd/*.trycmd");
}

/// `custody … | head -1`: the reader ends first. The tool ends, too, without a word and without an error.
#[test]
fn a_reader_that_ends_early_ends_the_tool_quietly() {
    // Each prints more than a pipe holds, or prints again after the pipe is closed.
    for arguments in [
        &["completions", "bash"][..],
        &["plan", "--table"],
        &["--json", "plan", "--rate", "1", "--size", "1KB"],
    ] {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_custody"));
        let mut tool = tool
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let mut first = String::new();
        let mut reader = BufReader::with_capacity(16, tool.stdout.take().expect("its output is piped"));
        reader.read_line(&mut first).expect("it prints a line");
        drop(reader);
        let ended = tool.wait_with_output().expect("the tool ends");
        assert!(!first.is_empty());
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");
        assert!(ended.status.success(), "{arguments:?}: {}", ended.status);
    }
}
