//! Tests of access: whose credential counts, what each role may do, and what happens while the table is unavailable.

use std::time::Duration;

use super::*;
use crate::{
    clock::Clock as _,
    error::ErrorName,
    ports::AccessEntries as _,
    problem::{Problem, ProblemKind},
    testing::{
        doubles::MemoryAccessEntries,
        samples::{TestClock, producer},
    },
};

const KEY: &str = "k-7";

fn context(identity: &serde_json::Value, authorizer: &serde_json::Value) -> RequestContext {
    serde_json::from_value(serde_json::json!({"identity": identity, "authorizer": authorizer})).unwrap()
}

fn with_key(id: &str) -> RequestContext {
    context(&serde_json::json!({"apiKeyId": id}), &serde_json::Value::Null)
}

#[test]
fn an_authenticated_identity_precedes_an_api_key() {
    use serde_json::{Value, json};
    let arn = "arn:aws:iam::123456789012:user/scoring";
    for (identity, authorizer, text) in [
        (json!({"apiKeyId": "k-1"}), Value::Null, Some("api-key:k-1".to_owned())),
        (json!({"apiKeyId": "k-1", "userArn": arn}), Value::Null, Some(format!("iam:{arn}"))),
        (
            json!({"apiKeyId": "k-1", "userArn": arn}),
            json!({"principalId": "svc"}),
            Some("token:svc".to_owned()),
        ),
        (json!({}), json!({}), None),
    ] {
        let credential = Credential::of(&context(&identity, &authorizer));
        assert_eq!(credential.as_ref().map(ToString::to_string), text);
        assert_eq!(text.map(|text| text.parse().unwrap()), credential);
    }
}

#[test]
fn the_name_of_a_session_does_not_change_who_a_role_is() {
    let role = |session: &str| {
        let arn = format!("arn:aws:sts::123456789012:assumed-role/Scoring/{session}");
        Credential::of(&context(&serde_json::json!({"userArn": arn}), &serde_json::Value::Null)).unwrap()
    };
    assert_eq!(role("one"), role("../Other/two"));
    assert_eq!(role("one").to_string(), "iam:arn:aws:sts::123456789012:assumed-role/Scoring");
    for arn in ["arn:aws:iam::123456789012:role/Scoring", "arn:aws:iam::123456789012:role/team/Scoring"] {
        assert_eq!(
            Credential::of_arn(arn),
            role("one"),
            "the role that an operator names is that of its sessions"
        );
    }
    let user = "arn:aws:iam::123456789012:user/team/scoring";
    assert_eq!(without_session(user), user, "the path of a user belongs to the user");
}

#[test]
fn text_without_kind_or_id_is_no_credential() {
    for text in ["", "k-1", "api-key:", "password:x"] {
        assert!(text.parse::<Credential>().unwrap_err().contains("api-key:<id>"), "{text}");
    }
}

#[test]
fn a_producer_writes_and_reads_its_own_sources_and_an_auditor_reads_all() {
    let producer = producer("loans", &["loans", "cards-*"]);
    for (source, allowed) in [("loans", true), ("cards-eu", true), ("loans2", false), ("", false)] {
        assert_eq!((producer.may_write(source), producer.may_read(source)), (allowed, allowed), "{source}");
    }
    let auditor = AccessEntry { role: Role::Auditor, ..producer.clone() };
    assert!(auditor.may_read("loans") && auditor.may_read("anything") && !auditor.may_write("loans"));
    let none = AccessEntry { role: Role::Producer { sources: Vec::new() }, ..producer.clone() };
    assert!(!none.may_write("loans") && !none.may_read("loans"));
    for entry in [producer, auditor] {
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<AccessEntry>(&text).unwrap(), entry, "{text}");
    }
}

struct Scene {
    entries: MemoryAccessEntries,
    control: AccessControl<MemoryAccessEntries>,
    clock: TestClock,
}

impl Scene {
    /// A table in which one API key belongs to a producer.
    fn new() -> Self {
        let (entries, clock) = (MemoryAccessEntries::default(), TestClock::default());
        let credential = Credential::ApiKey(KEY.to_owned());
        entries.set(&credential, &producer("loans", &["loans"]));
        Self { control: AccessControl::new(entries.clone()), entries, clock }
    }

    async fn ask(&self, key: &str) -> Result<String, Problem> {
        let entry = self.control.entry_of(&with_key(key), self.clock.now()).await;
        entry.map(|entry| entry.principal.clone())
    }

    fn advance(&self, duration: Duration) {
        self.clock.advance_ms(i64::try_from(duration.as_millis()).unwrap());
    }
}

#[tokio::test]
async fn a_credential_without_an_entry_is_forbidden_and_a_new_entry_is_valid_at_once() {
    let scene = Scene::new();
    assert_eq!(scene.ask(KEY).await.unwrap(), "loans");
    let problem = scene.ask("k-8").await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    assert!(problem.detail.contains("api-key:k-8") && problem.detail.contains("custody producer add"));
    let entry = producer("cards", &["cards"]);
    scene.entries.set(&Credential::ApiKey("k-8".to_owned()), &entry);
    assert_eq!(scene.ask("k-8").await.unwrap(), "cards");
    let nobody = scene.control.entry_of(&RequestContext::default(), scene.clock.now()).await.unwrap_err();
    assert_eq!(nobody.kind, ProblemKind::Forbidden);
}

#[tokio::test]
async fn a_right_that_was_taken_away_ends_within_a_minute() {
    let scene = Scene::new();
    scene.ask(KEY).await.unwrap();
    scene.entries.remove(&Credential::ApiKey(KEY.to_owned())).await.unwrap();
    scene.advance(Duration::from_secs(59));
    assert!(scene.ask(KEY).await.is_ok(), "the entry is remembered");
    scene.advance(Duration::from_secs(1));
    assert_eq!(scene.ask(KEY).await.unwrap_err().kind, ProblemKind::Forbidden);
    assert_eq!(scene.ask(KEY).await.unwrap_err().kind, ProblemKind::Forbidden, "the memory has forgotten it");
}

#[tokio::test]
async fn while_the_table_is_away_known_principals_go_on_for_an_hour_and_unknown_ones_wait() {
    let scene = Scene::new();
    scene.ask(KEY).await.unwrap();
    scene.entries.fail_with(Some(ErrorName::TableUnavailable));
    for _ in 0..59 {
        scene.advance(Duration::from_mins(1));
        assert!(scene.ask(KEY).await.is_ok());
        assert_eq!(scene.ask("k-8").await.unwrap_err().kind, ProblemKind::AccessUnavailable);
    }
    scene.advance(Duration::from_mins(1));
    assert_eq!(scene.ask(KEY).await.unwrap_err().kind, ProblemKind::AccessUnavailable, "after an hour");
    scene.entries.fail_with(None);
    assert!(scene.ask(KEY).await.is_err(), "the breaker is open");
    scene.advance(control::BREAKER_PAUSE);
    assert!(scene.ask(KEY).await.is_ok());
}

#[tokio::test]
async fn an_entry_is_not_kept_alive_by_use_while_the_table_is_away() {
    let scene = Scene::new();
    scene.ask(KEY).await.unwrap();
    scene.entries.fail_with(Some(ErrorName::AccessDenied));
    scene.advance(Duration::from_mins(59));
    assert!(scene.ask(KEY).await.is_ok());
    scene.advance(Duration::from_mins(2));
    assert!(scene.ask(KEY).await.is_err());
}

#[tokio::test]
async fn a_denied_table_is_left_alone_for_a_moment_and_an_unreadable_entry_concerns_its_caller_only() {
    for (name, others_are_served) in [(ErrorName::AccessDenied, false), (ErrorName::ServiceRefused, true)] {
        let scene = Scene::new();
        scene.entries.fail_with(Some(name));
        assert!(scene.ask("k-8").await.is_err());
        scene.entries.fail_with(None);
        assert_eq!(scene.ask(KEY).await.is_ok(), others_are_served, "{name:?}");
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_keeps_no_entry_fresh() {
    let scene = Scene::new();
    scene.ask(KEY).await.unwrap();
    scene.entries.remove(&Credential::ApiKey(KEY.to_owned())).await.unwrap();
    scene.clock.advance_ms(-3_600_000);
    assert_eq!(scene.ask(KEY).await.unwrap_err().kind, ProblemKind::Forbidden);
}

#[tokio::test]
async fn an_expired_credential_is_forbidden_also_while_it_is_remembered() {
    let scene = Scene::new();
    let credential = Credential::ApiKey(KEY.to_owned());
    let expires_at = Some(scene.clock.now().after(Duration::from_secs(10)));
    let entry = AccessEntry { expires_at, ..producer("loans", &["loans"]) };
    scene.entries.set(&credential, &entry);
    assert!(scene.ask(KEY).await.is_ok());
    scene.advance(Duration::from_secs(10));
    let problem = scene.ask(KEY).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    assert!(problem.detail.contains("expired"), "{}", problem.detail);
}
