//! What the tool says to a person before it asks any service: help, wrong usage, and plans. The texts are in `cmd/`. After a change that is
//! meant, `TRYCMD=overwrite cargo test -p custody-cli --test messages` writes them anew.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
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

/// Answers one request after the other with these statuses, each with a problem that can be tried again after a second.
fn answer_with(listener: &TcpListener, statuses: &[&str]) -> std::io::Result<()> {
    for status in statuses {
        let (mut connection, _) = listener.accept()?;
        let mut reader = BufReader::new(connection.try_clone()?);
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length is a number");
            }
            line.clear();
        }
        reader.read_exact(&mut vec![0; length])?;
        let body = r#"{"title": "No store", "detail": "send the request again", "instance": "urn:custody:request:1"}"#;
        write!(
            connection,
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )?;
    }
    Ok(())
}

#[test]
fn a_send_that_is_tried_again_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/", listener.local_addr().expect("it has an address"));
    let api = std::thread::spawn(move || answer_with(&listener, &["503 Unavailable", "403 Forbidden"]));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let arguments =
        ["send", "--url", &url, "--api-key", "key", "--type", "manifest", "--source", "tests", file];
    let sent = Command::new(env!("CARGO_BIN_EXE_custody")).args(arguments).output().expect("the tool starts");
    api.join().expect("no panic").expect("both requests were answered");
    let said = String::from_utf8_lossy(&sent.stderr);
    assert!(
        said.contains("No store (503): send the request again")
            && said.contains("; trying again in 1.0 s (2 of "),
        "{said}"
    );
    assert!(said.lines().last().is_some_and(|line| line.starts_with("error: send ")), "{said}");
    assert_eq!(sent.status.code(), Some(4), "{said}");
}
