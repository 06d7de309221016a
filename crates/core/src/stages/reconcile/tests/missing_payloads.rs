//! Tests of missing payloads: only definite absence leads to the failure function.

use super::*;

#[tokio::test]
async fn a_cache_that_lost_everything_is_noticed_within_minutes_and_each_record_handed_to_the_failure_function()
 {
    let world = World::default();
    world.workflow.fail_with(Some(ErrorName::AccessDenied));
    let records = [accepted(&world).await, accepted(&world).await];
    advance(&world, FIRST_LOOK);
    reconcile(&world).await;
    assert!(world.failure_handler.handled().is_empty(), "the payloads are there");
    world.cache.lose_everything();
    advance(&world, MAX_LOOK_INTERVAL);
    reconcile(&world).await;
    let handled = world.failure_handler.handled();
    assert_eq!(
        handled.len(),
        2,
        "a payload that is only in the cache is looked for at least every five minutes"
    );
    assert!(handled.iter().all(|failed| failed.failures[0].error_name == "PayloadMissing"));
    let next_look = world.clock.now().after(MAX_LOOK_INTERVAL);
    assert!(world.open_records.all().iter().all(|record| record.look_at == next_look));
    // The failure function decides, at its second look.
    for record in &records {
        let stage = world.failure(POLICY);
        assert!(!stage.run(failure(&record.message, "workflow", "PayloadMissing")).await.unwrap().finished);
    }
    advance(&world, LOSS_CONFIRMATION);
    assert_eq!(reconcile(&world).await.due, 2, "they are due when the second look is");
    let open = world.open_records.all();
    assert!(open.iter().all(|record| record.missing_since.is_some()), "this look has not found them either");
}

#[tokio::test]
async fn a_payload_that_was_archived_meanwhile_or_a_store_that_is_away_is_no_loss() {
    let world = World::default();
    let record = accepted(&world).await;
    world.archive.insert_unconditionally(&record.id().archive_key(), PAYLOAD);
    world.cache.lose_everything();
    advance(&world, FIRST_LOOK);
    assert_eq!(reconcile(&world).await.started, 1);
    let other = accepted(&world).await;
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    advance(&world, FIRST_LOOK);
    reconcile(&world).await;
    assert!(world.failure_handler.handled().is_empty());
    assert!(world.workflow.names().contains(&other.attempt().execution_name(1)));
}

#[tokio::test]
async fn a_payload_that_moves_while_it_is_looked_for_is_not_missing() {
    for delay in 0..12 {
        let world = World::default();
        let record = accepted(&world).await;
        advance(&world, FIRST_LOOK);
        let moving = async {
            for _ in 0..delay {
                world.markers.list(1).await.unwrap();
            }
            // Both stores change at once, as they do for a slow reader.
            world.archive.insert_unconditionally(&record.id().archive_key(), PAYLOAD);
            world.cache.lose(|id| id == record.id());
        };
        let looking = world.reconcile(SETTINGS);
        let (report, ()) = join(looking.run(), moving).await;
        report.unwrap();
        assert!(world.failure_handler.handled().is_empty(), "with a delay of {delay}");
    }
}
