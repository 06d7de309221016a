//! Tests of the header `Custody-Durability`: a request may ask for more than the deployment's default, and gets no less.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::{problem::ProblemKind, stages::ingest::Outcome};

fn request_for(durability: &str, idempotency_key: Option<&str>) -> Bytes {
    let mut event: Value = serde_json::from_slice(&request("text", "", idempotency_key)).unwrap();
    event["headers"]["custody-durability"] = json!(durability);
    Bytes::from(event.to_string())
}

#[tokio::test]
async fn a_request_for_the_archive_is_archived_before_its_receipt_and_never_cached() {
    for key in [None, Some("key")] {
        let world = World::default();
        let answer = world.ingest().run(request_for("archived", key)).await;
        let receipt = receipt(&answer.response);
        assert_eq!(receipt.durability, Durability::Archived);
        assert!(world.cache.puts() == 0, "the payload travels once");
        assert_eq!(world.archive.objects().len(), 1);
        let open = world.open_records.get(receipt.message_id).unwrap();
        assert!(open.message.storage_context.s3_reference.is_some());
    }
}

#[tokio::test]
async fn a_repeated_request_for_the_archive_leaves_no_second_object() {
    let world = World::default();
    let ingest = world.ingest();
    let first = receipt(&ingest.run(request_for("archived", Some("key"))).await.response);
    let again = ingest.run(request_for("archived", Some("key"))).await;
    assert_eq!(receipt(&again.response).message_id, first.message_id);
    assert_eq!(world.archive.objects().len(), 1, "nothing can be deleted from the archive");
}

#[tokio::test]
async fn a_durability_that_the_deployment_gives_is_that_of_any_request() {
    let world = World::default();
    let answer = world.ingest().run(request_for(" replicated ", None)).await;
    assert_eq!(receipt(&answer.response).durability, Durability::Replicated);
    world.cache.set_durable();
    let answer = world.ingest().run(request_for("replicated", None)).await;
    assert_eq!(receipt(&answer.response).durability, Durability::Durable, "more than was asked for");
}

#[tokio::test]
async fn a_durability_that_the_deployment_cannot_give_is_refused_before_anything_is_stored() {
    let world = World::default();
    let ingest = world.ingest();
    let answer = ingest.run(request_for("durable", Some("key"))).await;
    assert_eq!(
        (answer.response.status_code, problem(&answer.response)),
        (422, "durability-not-offered".into())
    );
    assert!(world.cache.puts() == 0 && world.archive.objects().is_empty());
    assert!(world.open_records.all().is_empty() && world.open_records.claims().is_empty());
    let answer = ingest.run(request_for("sealed", None)).await;
    assert_eq!((answer.response.status_code, problem(&answer.response)), (400, "invalid-header".into()));
    assert!(world.cache.puts() == 0 && world.open_records.all().is_empty());
}

#[tokio::test]
async fn a_request_for_the_archive_waits_while_the_archive_is_away() {
    let world = World::default();
    world.archive.fail_with(Some(ErrorName::ArchiveUnavailable));
    let answer = world.ingest().run(request_for("archived", None)).await;
    assert_eq!((answer.response.status_code, problem(&answer.response)), (503, "no-durable-store".into()));
    assert!(world.open_records.all().is_empty() && world.cache.puts() == 0);
}

#[test]
fn each_durability_covers_itself_and_what_survives_less() {
    use Durability::{Archived, Durable, Replicated};
    for (durability, covered) in
        [(Replicated, [true, false, false]), (Durable, [true, true, false]), (Archived, [true, true, true])]
    {
        assert_eq!(
            [Replicated, Durable, Archived].map(|other| durability.covers(other)),
            covered,
            "{durability}"
        );
    }
}

#[tokio::test]
async fn the_outcome_of_a_request_tells_a_fallback_from_a_wish_and_a_replay_from_a_first_receipt() {
    let world = World::default();
    let ingest = world.ingest();
    let acknowledged = |outcome| match outcome {
        Outcome::Acknowledged { durability, replayed, fell_back, .. } => (durability, replayed, fell_back),
        Outcome::Rejected(kind) => panic!("rejected: {kind:?}"),
    };
    let outcome = ingest.run(request("text", "", None)).await.outcome;
    assert_eq!(acknowledged(outcome), (Durability::Replicated, false, false));
    let outcome = ingest.run(request_for("archived", None)).await.outcome;
    assert_eq!(acknowledged(outcome), (Durability::Archived, false, false), "the producer wished it");
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    for (replayed, fell_back) in [(false, true), (true, false)] {
        let outcome = ingest.run(request("text", "", Some("key"))).await.outcome;
        assert_eq!(acknowledged(outcome), (Durability::Archived, replayed, fell_back));
    }
    world.archive.fail_with(Some(ErrorName::ArchiveUnavailable));
    let outcome = ingest.run(request("text", "", None)).await.outcome;
    assert_eq!(outcome, Outcome::Rejected(ProblemKind::NoDurableStore));
}
