//! Tests of the ingest stage: what a receipt waits for, and what it does not wait for.

mod access;
mod durability;
mod referenced;
mod warnings;

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use crate::{
    clock::Clock as _,
    error::{ErrorKind, ErrorName},
    idempotency::CLAIM_LIFETIME,
    ports::{OpenRecords as _, PayloadCache as _},
    receipt::Durability,
    stages::{
        failure::LOSS_CONFIRMATION,
        scenarios::{failure, problem, receipt, request},
    },
    testing::world::{POLICY, World},
};

fn advance(world: &World, duration: Duration) {
    world.clock.advance_ms(i64::try_from(duration.as_millis()).unwrap());
}

#[tokio::test]
async fn a_receipt_waits_for_payload_and_acceptance_and_for_nothing_else() {
    let world = World::default();
    let ingest = world.ingest();
    let answer = ingest.run(request("text", "", None)).await;
    let receipt = receipt(&answer.response);
    let id = receipt.message_id;
    assert_eq!(receipt.durability, Durability::Replicated);
    assert!(world.cache.holds(id) && world.open_records.get(id).is_some());
    assert!(!world.cache.is_persisted(id), "taking the expiry off comes after the response");
    let context = world.open_records.get(id).unwrap().message.storage_context;
    assert_eq!(context.redis_reference, Some(world.cache.reference(id)), "archive finds the payload");
    assert!(context.s3_reference.is_none() && !context.persistence.s3);
    assert!(world.workflow.names().is_empty(), "starting the workflow comes after the response");

    ingest.follow_up(answer.follow_up).await;
    assert!(world.cache.is_persisted(id));
    assert_eq!(world.workflow.names(), [format!("{id}-1-1")]);
    assert_eq!(world.workflow.started()[0], world.open_records.get(id).unwrap().message);
}

#[tokio::test]
async fn nothing_is_accepted_before_its_payload_is_durable() {
    let world = World::default();
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    world.archive.fail_with(Some(ErrorName::ArchiveUnavailable));
    for key in [None, Some("key")] {
        let answer = world.ingest().run(request("text", "", key)).await;
        assert_eq!(
            (answer.response.status_code, problem(&answer.response)),
            (503, "no-durable-store".into())
        );
        assert!(world.open_records.all().is_empty() && world.markers.marked().is_empty());
        assert!(world.open_records.claims().is_empty());
    }
    // A payload that the replicas did not confirm is no better than a cache that is not available.
    world.cache.fail_with(None);
    world.cache.set_replicas_lag(true);
    let answer = world.ingest().run(request("text", "", None)).await;
    assert_eq!(answer.response.status_code, 503);
    assert!(world.open_records.all().is_empty());
}

#[tokio::test]
async fn a_cache_that_refuses_makes_ingest_archive_the_payload_itself() {
    let world = World::default();
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let ingest = world.ingest();
    let answer = ingest.run(request("text", "", None)).await;
    let receipt = receipt(&answer.response);
    assert_eq!(receipt.durability, Durability::Archived);
    let open = world.open_records.get(receipt.message_id).unwrap();
    assert_eq!(open.durability, Durability::Archived);
    assert!(open.message.storage_context.s3_reference.is_some());
    assert_eq!(world.archive.objects().len(), 1);
    ingest.follow_up(answer.follow_up).await;
    assert_eq!(world.workflow.names().len(), 1);
}

#[tokio::test]
async fn while_the_table_is_away_a_marker_is_the_acceptance_and_nothing_is_started() {
    let world = World::default();
    world.open_records.fail_with(Some(ErrorName::TableUnavailable));
    let ingest = world.ingest();
    let answer = ingest.run(request("text", "", None)).await;
    let id = receipt(&answer.response).message_id;
    ingest.follow_up(answer.follow_up).await;
    assert_eq!(world.markers.marked().iter().map(|attempt| attempt.record).collect::<Vec<_>>(), [id]);
    assert!(world.workflow.names().is_empty(), "reconcile adopts before anything is started");
    assert!(world.cache.is_persisted(id), "an accepted payload has no expiry");

    world.markers.fail_with(Some(ErrorName::MarkersUnavailable));
    let answer = ingest.run(request("text", "", None)).await;
    assert_eq!(answer.response.status_code, 503, "without marker there is no receipt");
}

#[tokio::test]
async fn a_table_that_failed_is_left_alone_for_a_moment_and_asked_again_after_it() {
    let world = World::default();
    let ingest = world.ingest();
    world.open_records.fail_with(Some(ErrorName::TableUnavailable));
    let _ = ingest.run(request("text", "", None)).await;
    world.open_records.fail_with(None);
    let _ = ingest.run(request("text", "", None)).await;
    assert_eq!((world.open_records.all().len(), world.markers.marked().len()), (0, 2), "the breaker is open");
    advance(&world, Duration::from_secs(4));
    let _ = ingest.run(request("text", "", None)).await;
    assert_eq!((world.open_records.all().len(), world.markers.marked().len()), (1, 2));
}

#[tokio::test]
async fn keyed_requests_are_turned_away_while_the_table_is_away_before_anything_is_stored() {
    let world = World::default();
    let ingest = world.ingest();
    world.open_records.fail_with(Some(ErrorName::TableUnavailable));
    let answer = ingest.run(request("text", "", Some("key"))).await;
    assert_eq!(problem(&answer.response), "idempotency-unavailable");
    assert!(answer.response.headers.contains_key("Retry-After"));
    ingest.follow_up(answer.follow_up).await;
    assert!(world.cache.records().is_empty(), "what was stored while the table was asked is unlinked");

    let puts = world.cache.puts();
    let answer = ingest.run(request("text", "", Some("key"))).await;
    assert_eq!(answer.response.status_code, 503);
    assert_eq!(world.cache.puts(), puts, "the breaker is asked before the cache");
    ingest.follow_up(answer.follow_up).await;
    assert!(world.archive.objects().is_empty() && world.markers.marked().is_empty());
    assert!(world.dead_letters.all().is_empty(), "an outage buries no failed record");
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_receipt_and_leaves_nothing_behind() {
    let world = World::default();
    let ingest = world.ingest();
    let first = ingest.run(request("text", "", Some("key"))).await;
    let again = ingest.run(request("text", "", Some("key"))).await;
    let (one, other) = (receipt(&first.response), receipt(&again.response));
    assert_eq!(one.message_id, other.message_id);
    assert_eq!(serde_json::to_value(&one).unwrap(), serde_json::to_value(&other).unwrap());
    assert_eq!(again.response.headers["Idempotency-Replayed"], "true");
    assert!(!first.response.headers.contains_key("Idempotency-Replayed"));
    assert_eq!(world.open_records.all().len(), 1);
    assert_eq!(world.cache.records().len(), 2, "the clean-up comes after the response");
    ingest.follow_up(again.follow_up).await;
    ingest.follow_up(first.follow_up).await;
    assert_eq!(world.cache.records(), [one.message_id]);
    assert_eq!(world.workflow.names().len(), 1);
}

#[tokio::test]
async fn the_same_key_with_another_payload_or_other_metadata_is_a_conflict_that_leaves_nothing_behind() {
    let world = World::default();
    let ingest = world.ingest();
    let first = ingest.run(request("text", "note", Some("key"))).await;
    let id = receipt(&first.response).message_id;
    let other_payload = (request("other", "note", Some("key")), "payload SHA-256");
    let other_metadata = (request("text", "other", Some("key")), "other metadata");
    for (other, difference) in [other_payload, other_metadata] {
        let answer = ingest.run(other).await;
        assert_eq!(
            (answer.response.status_code, problem(&answer.response)),
            (409, "idempotency-conflict".into())
        );
        let named = format!("belongs to record {id} with {difference}");
        assert!(answer.response.body.contains(&named), "{}", answer.response.body);
        ingest.follow_up(answer.follow_up).await;
        assert_eq!(world.cache.records(), [id]);
    }
    // While the cache is not available, the archive, which never deletes anything, gets no payload of a request whose
    // key is taken.
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let answer = ingest.run(request("other", "note", Some("key"))).await;
    assert_eq!(answer.response.status_code, 409);
    assert!(world.archive.objects().is_empty());
}

#[tokio::test]
async fn a_claim_is_checked_for_its_expiry_and_outlives_it_while_its_record_is_open() {
    let world = World::default();
    let ingest = world.ingest();
    let first = receipt(&ingest.run(request("text", "", Some("key"))).await.response);
    advance(&world, CLAIM_LIFETIME);
    let again = ingest.run(request("text", "", Some("key"))).await;
    assert_eq!(receipt(&again.response).message_id, first.message_id, "the record is open");

    let attempt = world.open_records.get(first.message_id).unwrap().attempt();
    world.open_records.close(attempt).await.unwrap();
    let later = ingest.run(request("text", "", Some("key"))).await;
    assert_ne!(receipt(&later.response).message_id, first.message_id, "the claim has expired");
    assert!(!later.response.headers.contains_key("Idempotency-Replayed"));
    assert_eq!(world.open_records.claims().len(), 1);
}

#[tokio::test]
async fn a_payload_is_kept_where_nobody_knows_whether_its_record_was_accepted() {
    // Only the transaction fails: the lookup of the claim before it has succeeded.
    let world = World::default();
    let ingest = world.ingest();
    world.open_records.fail_accepts(true);
    let answer = ingest.run(request("text", "", Some("key"))).await;
    assert_eq!(problem(&answer.response), "idempotency-unavailable");
    ingest.follow_up(answer.follow_up).await;
    assert_eq!(world.cache.records().len(), 1, "the acceptance may have been written");
}

#[tokio::test]
async fn a_rejected_request_is_kept_after_the_response_and_apart_from_dead_letters() {
    let world = World::default();
    let ingest = world.ingest();
    let answer = ingest.run(request("", "", None)).await;
    assert_eq!(answer.response.status_code, 400);
    assert!(world.failed_store.objects().is_empty(), "it is stored after the response");
    ingest.follow_up(answer.follow_up).await;
    let dead_letters = world.rejected_requests.all();
    assert_eq!((dead_letters.len(), dead_letters[0].failure.kind), (1, ErrorKind::Invalid));
    let key = &dead_letters[0].failure.payload_reference.as_ref().unwrap().key;
    assert!(key.starts_with("rejected/"), "{key}");
    assert!(world.failed_store.objects().contains_key(key));
    assert!(world.dead_letters.all().is_empty());

    // A request that no store could take is reported to operators.
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    world.archive.fail_with(Some(ErrorName::ArchiveUnavailable));
    let answer = ingest.run(request("text", "", None)).await;
    ingest.follow_up(answer.follow_up).await;
    let dead_letters = world.dead_letters.all();
    assert_eq!((dead_letters.len(), dead_letters[0].failure.kind), (1, ErrorKind::Transient));
    assert!(dead_letters[0].failure.payload_reference.as_ref().unwrap().key.starts_with("requests/"));

    // If the request cannot be preserved either, the dead letter is sent nevertheless.
    world.failed_store.fail_with(Some(ErrorName::FailedStoreUnavailable));
    let answer = ingest.run(request("text", "", None)).await;
    ingest.follow_up(answer.follow_up).await;
    let dead_letters = world.dead_letters.all();
    assert_eq!((dead_letters.len(), &dead_letters[1].failure.payload_reference), (2, &None));
    assert!(dead_letters[1].unfinished[0].contains("could not be preserved"));
}

#[tokio::test]
async fn a_follow_up_that_fails_leaves_an_acceptance_for_reconcile() {
    let world = World::default();
    let ingest = world.ingest();
    let answer = ingest.run(request("text", "", None)).await;
    world.workflow.fail_with(Some(ErrorName::WorkflowUnavailable));
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    ingest.follow_up(answer.follow_up).await;
    assert_eq!(world.open_records.all().len(), 1);
    world.cache.fail_with(None);
    let id = world.open_records.all()[0].id();
    assert!(world.cache.size(id).await.unwrap().is_some());
    assert_eq!(world.open_records.get(id).unwrap().look_at, world.clock.now().after(Duration::from_mins(2)));
}

#[tokio::test]
async fn a_lost_payload_that_is_sent_again_completes_its_record() {
    let world = World::default();
    let sent = world.ingest().run(request("audit", "note", Some("key"))).await;
    let first = receipt(&sent.response);
    world.ingest().follow_up(sent.follow_up).await;
    world.cache.lose_everything();
    let record = world.open_records.get(first.message_id).unwrap();
    let stage = world.failure(POLICY);
    assert!(!stage.run(failure(&record.message, "archive", "PayloadMissing")).await.unwrap().finished);
    advance(&world, LOSS_CONFIRMATION);
    assert!(stage.run(failure(&record.message, "archive", "PayloadMissing")).await.unwrap().finished);
    let dead_letter = world.dead_letters.all().remove(0);
    assert_eq!(dead_letter.failure.error_name, "PayloadLost");

    let again = world.ingest().run(request("audit", "note", Some("key"))).await;
    assert_eq!(receipt(&again.response).message_id, first.message_id);
    world.ingest().follow_up(again.follow_up).await;
    assert_eq!(world.failed_store.objects()[&first.message_id.preserved_key()], b"audit".as_slice());
    world.redrive().redrive(dead_letter, true).await.unwrap();
    let next = world.open_records.get(first.message_id).unwrap();
    world.archive_stage().run(&next.message).await.unwrap();
    assert_eq!(world.archive.content(&first.message_id.archive_key()).unwrap(), b"audit".as_slice());
}

#[tokio::test]
async fn a_receipt_that_is_repeated_does_not_wait_for_the_cache() {
    let world = World::default();
    let first = world.ingest().run(request("audit", "note", Some("key"))).await;
    world.cache.set_hangs(true);
    let (ingest, event) = (world.ingest(), request("audit", "note", Some("key")));
    let mut answering = pin!(ingest.run(event.clone()));
    let mut again = None;
    // Everything that does not hang is done after so many polls.
    for _ in 0..100 {
        if let Poll::Ready(answer) = poll_fn(|context| Poll::Ready(answering.as_mut().poll(context))).await {
            again = Some(answer);
            break;
        }
    }
    let again = again.expect("the answer waits for the cache");
    assert_eq!(receipt(&again.response).message_id, receipt(&first.response).message_id);
    world.cache.set_hangs(false);
    world.ingest().follow_up(again.follow_up).await;
    assert_eq!(
        world.cache.records(),
        [receipt(&first.response).message_id],
        "what the put may have left is unlinked"
    );
}
