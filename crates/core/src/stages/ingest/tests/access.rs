//! Tests of access: what a caller may send, and that nothing is stored of what it may not.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::{
    access::{AccessEntry, Credential, Role},
    testing::{log::with_log, samples},
};

/// A request with this API key and `sourceSystemID`.
fn request_from(key_id: &str, source: &str, idempotency_key: Option<&str>) -> Bytes {
    let mut event: Value = serde_json::from_slice(&request("text", "", idempotency_key)).unwrap();
    event["requestContext"]["identity"] = json!({"apiKeyId": key_id, "sourceIp": "192.0.2.1"});
    let body = event["body"].as_str().unwrap().replace("\"tests\"", &format!("{source:?}"));
    event["body"] = body.into();
    Bytes::from(event.to_string())
}

/// A world in which two API keys belong to `loans`, one to `cards`, and one to an auditor.
fn world() -> World {
    let world = World::default();
    let loans = samples::producer("loans", &["loans", "mortgages-*"]);
    let auditor = AccessEntry { principal: "audit".to_owned(), role: Role::Auditor, ..loans.clone() };
    for (key, entry) in [
        ("loans-1", loans.clone()),
        ("loans-2", loans),
        ("cards-1", samples::producer("cards", &["cards"])),
        ("audit-1", auditor),
    ] {
        world.access.set(&Credential::ApiKey(key.to_owned()), &entry);
    }
    world
}

fn has_stored_nothing(world: &World) -> bool {
    world.cache.puts() == 0
        && world.archive.objects().is_empty()
        && world.open_records.all().is_empty()
        && world.markers.marked().is_empty()
        && world.failed_store.objects().is_empty()
        && world.rejected_requests.all().is_empty()
        && world.dead_letters.all().is_empty()
}

#[tokio::test]
async fn a_producer_writes_only_its_own_sources_and_nothing_is_stored_of_others() {
    let world = world();
    let ingest = world.ingest();
    for (key, source) in [
        ("loans-1", "cards"),
        ("loans-1", "loans2"),
        ("loans-1", "mortgages"),
        ("cards-1", "loans"),
        ("audit-1", "loans"),
        ("nobody", "loans"),
    ] {
        let answer = ingest.run(request_from(key, source, Some("key"))).await;
        let response = &answer.response;
        assert_eq!((response.status_code, problem(response)), (403, "forbidden".into()), "{key} {source}");
        ingest.follow_up(answer.follow_up).await;
        assert!(has_stored_nothing(&world), "{key} {source}");
    }
    for (key, source) in [("loans-1", "loans"), ("loans-2", "mortgages-eu"), ("cards-1", "cards")] {
        let answer = ingest.run(request_from(key, source, None)).await;
        let id = receipt(&answer.response).message_id;
        let message = world.open_records.get(id).unwrap().message;
        let caller = message.security_context.request_context;
        assert_eq!(caller.principal.as_deref(), key.split('-').next(), "the record names its sender");
        assert_eq!(caller.api_key_id.as_deref(), Some(key));
    }
}

#[tokio::test]
async fn each_denial_has_a_line_in_the_access_log() {
    let world = world();
    let ingest = world.ingest();
    for (key, source, principal) in
        [("loans-1", "cards", Some("loans")), ("audit-1", "loans", Some("audit")), ("nobody", "loans", None)]
    {
        let (_, lines) = with_log(ingest.run(request_from(key, source, None))).await;
        let denials: Vec<_> = lines.iter().filter(|line| line["access.outcome"] == "denied").collect();
        let [line] = denials[..] else { panic!("{lines:?}") };
        assert_eq!((&line["level"], &line["access.action"]), (&json!("WARN"), &json!("write")));
        assert_eq!(
            (&line["access.principal"], &line["access.source_system_id"]),
            (&json!(principal), &json!(source))
        );
        assert_eq!(line["access.credential"], format!("api-key:{key}"));
        assert_eq!(line["access.source_ip"], "192.0.2.1");
    }
}

#[tokio::test]
async fn a_request_of_an_auditor_is_forbidden_also_if_it_cannot_be_read() {
    let world = world();
    let ingest = world.ingest();
    let mut event: Value = serde_json::from_slice(&request_from("audit-1", "loans", None)).unwrap();
    event["body"] = json!("not JSON");
    let answer = ingest.run(Bytes::from(event.to_string())).await;
    assert_eq!((answer.response.status_code, problem(&answer.response)), (403, "forbidden".into()));
    ingest.follow_up(answer.follow_up).await;
    assert!(has_stored_nothing(&world));
}

#[tokio::test]
async fn the_detail_of_a_denial_tells_what_the_producer_may_write() {
    let world = world();
    let answer = world.ingest().run(request_from("loans-1", "cards", None)).await;
    let body: Value = serde_json::from_str(&answer.response.body).unwrap();
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains("loans, mortgages-*") && detail.contains("`cards`"), "{detail}");
}

#[tokio::test]
async fn nothing_is_stored_of_an_unreadable_request_of_an_unknown_caller() {
    let world = world();
    let ingest = world.ingest();
    let unreadable = |key: &str| {
        let event = json!({
            "httpMethod": "POST",
            "requestContext": {"requestId": "r-1", "identity": {"apiKeyId": key}},
            "body": "{",
        });
        Bytes::from(event.to_string())
    };
    let answer = ingest.run(unreadable("nobody")).await;
    assert_eq!(answer.response.status_code, 403);
    ingest.follow_up(answer.follow_up).await;
    assert!(has_stored_nothing(&world));
    let answer = ingest.run(unreadable("loans-1")).await;
    assert_eq!(answer.response.status_code, 400);
    ingest.follow_up(answer.follow_up).await;
    assert_eq!(world.rejected_requests.all().len(), 1, "the request of a known producer is stored");
}

#[tokio::test]
async fn while_the_access_table_is_away_known_producers_go_on_and_unknown_ones_wait() {
    let world = world();
    let ingest = world.ingest();
    receipt(&ingest.run(request_from("loans-1", "loans", None)).await.response);
    world.access.fail_with(Some(ErrorName::TableUnavailable));
    advance(&world, Duration::from_mins(30));
    receipt(&ingest.run(request_from("loans-1", "loans", None)).await.response);
    let answer = ingest.run(request_from("cards-1", "cards", None)).await;
    assert_eq!((answer.response.status_code, problem(&answer.response)), (503, "access-unavailable".into()));
    assert!(answer.response.headers.contains_key("Retry-After"));
    ingest.follow_up(answer.follow_up).await;
    assert!(world.dead_letters.all().is_empty(), "an outage must not fill the dead-letter queue");
}

#[tokio::test]
async fn a_producer_keeps_its_idempotency_keys_with_a_new_api_key_and_shares_them_with_nobody() {
    let world = world();
    world.access.set(&Credential::ApiKey("cards-1".to_owned()), &samples::producer("cards", &["*"]));
    let ingest = world.ingest();
    let send = async |key: &str| {
        let answer = ingest.run(request_from(key, "loans", Some("same"))).await;
        receipt(&answer.response).message_id
    };
    let first = send("loans-1").await;
    assert_eq!(send("loans-2").await, first, "the new key of the same producer");
    assert_ne!(send("cards-1").await, first, "another producer has a key space of its own");
}
