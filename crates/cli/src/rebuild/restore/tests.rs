//! Tests of the restoration of one record, over the stores in memory.

use custody_core::{
    dead_letter::DeadLetter,
    error::ErrorName,
    message::InternalMessage,
    open_record::OpenRecord,
    ports::{Discard, NotedDiscard, PayloadCache as _},
    stages::aggregate::{self, AggregateInput},
    testing::{
        contract,
        doubles::{MemoryArchive, MemoryMarkers, MemoryOpenRecords, MemoryTable},
        samples,
        world::World,
    },
};

use super::*;

const PAYLOAD: &[u8] = b"payload";

/// Runs the stages of one attempt. The record is not open afterwards.
async fn completed(world: &World, message: &InternalMessage) {
    world.cache.put(message.message_id, PAYLOAD.into()).await.unwrap();
    let archive = world.archive_stage().run(message).await.unwrap();
    let metadata =
        custody_core::stages::metadata::run(&world.record_table, &world.clock, message).await.unwrap();
    let input = AggregateInput { message: message.clone(), archive, metadata };
    aggregate::run(&world.record_table, &world.cache, &world.clock, input).await.unwrap();
}

fn restorer(world: &World) -> Restorer<MemoryArchive, MemoryOpenRecords, MemoryMarkers, MemoryTable> {
    Restorer {
        archive: world.archive.clone(),
        open: world.open_records.clone(),
        markers: world.markers.clone(),
        table: world.record_table.clone(),
        now: samples::record_id().received_at(),
        dry_run: false,
    }
}

fn evidence(message: &InternalMessage) -> Evidence {
    let dead_letter = DeadLetter::of_record(message, contract::failure_of(message), Vec::new());
    let discard =
        Discard { by: "operator".to_owned(), at: message.received_at, reason: "withdrawn".to_owned() };
    Evidence { attempt: message.attempt(), discard, dead_letter, message: message.clone() }
}

#[tokio::test]
async fn a_lost_item_of_a_completed_record_is_made_again_with_a_note() {
    let world = World::default();
    let message = samples::message(PAYLOAD);
    let id = message.message_id;
    completed(&world, &message).await;
    let before = world.record_table.item(id).unwrap();
    let restorer = restorer(&world);
    assert_eq!(restorer.completed(message.attempt()).await.unwrap(), Restored::Present);
    assert_eq!(world.record_table.item(id).unwrap().rebuilt_at, None, "an item that exists is not changed");

    world.record_table.lose_all_but(|_| false);
    let dry = Restorer { dry_run: true, ..self::restorer(&world) };
    assert_eq!(dry.completed(message.attempt()).await.unwrap(), Restored::Completed);
    assert!(world.record_table.items().is_empty());
    assert_eq!(restorer.completed(message.attempt()).await.unwrap(), Restored::Completed);
    let after = world.record_table.item(id).unwrap();
    assert_eq!(after.status, "COMPLETED");
    assert_eq!((&after.message.metadata, &after.message.payload), (&message.metadata, &message.payload));
    assert_eq!(after.message.security_context, message.security_context);
    assert_eq!(after.message.storage_context, before.message.storage_context);
    assert_eq!(after.completion.unwrap().archived_at, before.completion.unwrap().archived_at);
    assert_eq!(after.rebuilt_at, Some(restorer.now));
}

#[tokio::test]
async fn an_item_of_an_older_copy_of_the_table_is_completed() {
    let world = World::default();
    let message = samples::message(PAYLOAD);
    completed(&world, &message).await;
    world.record_table.lose_all_but(|_| false);
    // The copy was made before the record was completed.
    world.record_table.put_received(&message, message.received_at).await.unwrap();
    assert_eq!(restorer(&world).completed(message.attempt()).await.unwrap(), Restored::Completed);
    let item = world.record_table.item(message.message_id).unwrap();
    assert_eq!((item.status, item.stored_at), ("COMPLETED", Some(message.received_at)));
}

#[tokio::test]
async fn an_open_record_is_left_to_its_workflow() {
    for is_marked in [false, true] {
        let world = World::default();
        let message = samples::message(PAYLOAD);
        completed(&world, &message).await;
        world.record_table.lose_all_but(|_| false);
        let open: OpenRecord = samples::open_record(&message);
        if is_marked {
            world.markers.mark(&open).await.unwrap();
        } else {
            world.open_records.accept(&open, None).await.unwrap();
        }
        let restorer = restorer(&world);
        assert_eq!(restorer.completed(message.attempt()).await.unwrap(), Restored::Open);
        assert_eq!(restorer.discarded(&evidence(&message)).await.unwrap(), Restored::Open);
        assert!(world.record_table.items().is_empty());
    }
}

#[tokio::test]
async fn no_item_says_completed_of_a_payload_that_is_gone_or_altered() {
    for is_altered in [false, true] {
        let world = World::default();
        let message = samples::message(PAYLOAD);
        completed(&world, &message).await;
        world.record_table.lose_all_but(|_| false);
        let key = message.message_id.archive_key();
        if is_altered {
            world.archive.insert_unconditionally(&key, b"altered");
        } else {
            world.archive.remove(&key);
        }
        let restored = restorer(&world).completed(message.attempt()).await.unwrap();
        assert!(matches!(restored, Restored::Impossible(_)), "{restored:?}");
        assert!(world.record_table.items().is_empty());
    }
}

#[tokio::test]
async fn a_discarded_record_is_discarded_again_with_its_reason() {
    let world = World::default();
    let message = samples::message(PAYLOAD);
    // Its metadata could not be stored, after its payload was archived.
    world.cache.put(message.message_id, PAYLOAD.into()).await.unwrap();
    world.archive_stage().run(&message).await.unwrap();
    let evidence = evidence(&message);
    assert_eq!(
        settled_before(None, message.attempt(), Some(&evidence)),
        Some(Restored::LeftToEvidence),
        "it is not complete, although it has a manifest"
    );
    let restorer = restorer(&world);
    assert_eq!(restorer.discarded(&evidence).await.unwrap(), Restored::Discarded);
    let item = world.record_table.item(message.message_id).unwrap();
    assert_eq!((item.status, item.discard), ("FAILED", Some(evidence.discard.clone())));
    assert_eq!(item.rebuilt_at, Some(restorer.now));
    assert_eq!(restorer.discarded(&evidence).await.unwrap(), Restored::Present);
}

#[tokio::test]
async fn a_record_that_was_redriven_after_its_discard_is_completed() {
    let world = World::default();
    let first = samples::message(PAYLOAD);
    let second = samples::redriven(&first);
    completed(&world, &second).await;
    world.record_table.lose_all_but(|_| false);
    let evidence = evidence(&first);
    assert_eq!(settled_before(None, second.attempt(), Some(&evidence)), None);
    let restorer = restorer(&world);
    assert_eq!(restorer.completed(second.attempt()).await.unwrap(), Restored::Completed);
    assert_eq!(restorer.discarded(&evidence).await.unwrap(), Restored::Present);
    assert_eq!(world.record_table.item(first.message_id).unwrap().status, "COMPLETED");
}

#[tokio::test]
async fn a_failure_that_nobody_decided_is_a_problem_for_a_person() {
    let world = World::default();
    let message = samples::message(PAYLOAD);
    world.cache.put(message.message_id, PAYLOAD.into()).await.unwrap();
    world.archive_stage().run(&message).await.unwrap();
    world.record_table.fail(&message, &contract::failure_of(&message)).await.unwrap();
    let restored = restorer(&world).completed(message.attempt()).await.unwrap();
    assert!(matches!(restored, Restored::Impossible(why) if why.contains("custody trace")));
    assert_eq!(world.record_table.item(message.message_id).unwrap().status, "FAILED");
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_is_an_error_and_changes_nothing() {
    let world = World::default();
    let message = samples::message(PAYLOAD);
    completed(&world, &message).await;
    world.record_table.lose_all_but(|_| false);
    let restorer = restorer(&world);
    for fail in [
        &(|on| world.open_records.fail_with(on)) as &dyn Fn(Option<ErrorName>),
        &|on| world.markers.fail_with(on),
        &|on| world.archive.fail_with(on),
    ] {
        fail(Some(ErrorName::AccessDenied));
        assert_eq!(restorer.completed(message.attempt()).await.unwrap_err().name, ErrorName::AccessDenied);
        fail(None);
        assert!(world.record_table.items().is_empty());
    }
}

#[test]
fn an_items_state_settles_what_no_store_needs_to_be_asked_about() {
    let attempt = samples::message(PAYLOAD).attempt();
    let discard = evidence(&samples::message(PAYLOAD)).discard;
    let noted = |attempt| Some(NotedDiscard { attempt, discard: discard.clone() });
    let failed = |attempt, discarded| ItemState::Failed { attempt, discarded };
    for (state, settled) in [
        (None, None),
        (Some(ItemState::Received), None),
        (Some(failed(1, noted(1))), Some(Restored::Present)),
        (Some(failed(1, None)), None),
    ] {
        assert_eq!(settled_before(state.as_ref(), attempt, None), settled, "{state:?}");
    }
    assert_eq!(
        settled_before(Some(&failed(1, noted(1))), attempt.next(), None),
        None,
        "it was redriven since"
    );
}

/// The item is of an older copy of the table, and the operator has discarded the later attempt while the rebuild was running.
#[tokio::test]
async fn an_item_that_was_discarded_meanwhile_is_not_completed() {
    let world = World::default();
    let first = samples::message(PAYLOAD);
    let second = samples::redriven(&first);
    world.cache.put(first.message_id, PAYLOAD.into()).await.unwrap();
    world.archive_stage().run(&second).await.unwrap();
    world.record_table.fail(&first, &contract::failure_of(&first)).await.unwrap();
    let discard = evidence(&second).discard;
    assert!(world.record_table.discard(second.attempt(), &discard).await.unwrap());
    let restored = restorer(&world).completed(second.attempt()).await.unwrap();
    assert!(matches!(restored, Restored::Impossible(why) if why.contains("discarded")));
    assert_eq!(world.record_table.item(first.message_id).unwrap().status, "FAILED");
}
