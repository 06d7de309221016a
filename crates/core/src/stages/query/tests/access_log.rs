//! Tests of the access log: who has asked for what, and what the answer was.

use super::*;
use crate::testing::log::with_log;

/// Asks, and returns the one line of the access log and the kind of the problem that the log has for the refusal.
async fn logged(world: &World, event: Bytes) -> (Value, Option<String>) {
    let query = world.query();
    let (_, lines) = with_log(ask(&query, event)).await;
    let of_access = |line: &&Value| line["access.outcome"].is_string();
    assert_eq!(lines.iter().filter(of_access).count(), 1, "{lines:?}");
    let refusal = lines.iter().find(|line| line["message"] == "refused a request");
    if let Some(refusal) = refusal {
        assert_eq!((&refusal["request.id"], &refusal["stage"]), (&json!("r-1"), &json!("query")));
    }
    let line = lines.iter().find(of_access).unwrap().clone();
    assert_eq!((&line["request.id"], &line["access.source_ip"]), (&json!("r-1"), &json!("192.0.2.1")));
    (line, refusal.map(|refusal| refusal["problem"].as_str().unwrap().to_owned()))
}

#[tokio::test]
async fn each_payload_that_is_read_has_a_line_with_reader_and_record() {
    let world = world();
    let id = completed(&world, "loans").await.message_id;
    for (caller, accept) in [("loans", "application/json"), ("audit", "*/*")] {
        let (line, refusal) = logged(&world, payload_event(caller, id, accept)).await;
        assert_eq!(refusal, None);
        assert_eq!((&line["level"], &line["access.outcome"]), (&json!("INFO"), &json!("granted")));
        assert_eq!((&line["access.action"], &line["record.id"]), (&json!("read payload"), &json!(id)));
        assert_eq!(line["access.principal"], caller);
        assert_eq!(line["access.credential"], format!("api-key:{caller}"));
    }
}

#[tokio::test]
async fn each_denial_has_a_line_with_caller_source_and_reason() {
    let world = world();
    let id = completed(&world, "loans").await.message_id;
    let of_record = |resource| event("cards", resource, &id.to_string(), &Value::Null, "*/*");
    for (event, action) in [
        (of_record("/messages/{messageID}"), "read record"),
        (of_record("/messages/{messageID}/payload"), "read payload"),
    ] {
        let (line, refusal) = logged(&world, event).await;
        assert_eq!(refusal.as_deref(), Some("unknown-record"), "the caller is not told that there is one");
        assert_eq!((&line["level"], &line["access.outcome"]), (&json!("WARN"), &json!("denied")));
        assert_eq!((&line["access.action"], &line["record.id"]), (&json!(action), &json!(id)));
        assert_eq!(
            (&line["access.principal"], &line["access.source_system_id"]),
            (&json!("cards"), &json!("loans"))
        );
        assert_eq!(line["access.reason"], "the record is of another source");
    }
    let list = event("cards", "/messages", "", &json!({"sourceSystemID": "loans"}), "*/*");
    let (line, refusal) = logged(&world, list).await;
    assert_eq!((refusal.as_deref(), &line["access.action"]), (Some("forbidden"), &json!("list records")));
    assert_eq!(
        (&line["access.principal"], &line["access.source_system_id"]),
        (&json!("cards"), &json!("loans"))
    );

    let (line, refusal) = logged(&world, payload_event("nobody", id, "*/*")).await;
    assert_eq!((refusal.as_deref(), &line["access.outcome"]), (Some("forbidden"), &json!("denied")));
    assert!(line["access.principal"].is_null() && line["access.credential"] == "api-key:nobody", "{line}");
}
