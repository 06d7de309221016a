//! Tests of upkeep: claims and payloads of open records.

use super::*;

#[tokio::test]
async fn a_payload_loses_its_expiry_also_while_the_record_table_is_away() {
    let world = World::default();
    let record = accepted(&world).await;
    world.record_table.fail_with(Some(ErrorName::AccessDenied));
    advance(&world, FIRST_LOOK);
    let report = reconcile(&world).await;
    assert_eq!((report.postponed, report.started), (1, 0), "what is complete would be started again");
    assert!(world.cache.is_persisted(record.id()), "an accepted payload has no expiry");
}

#[tokio::test]
async fn the_payload_of_a_failed_record_keeps_its_expiry() {
    let world = World::default();
    let record = accepted(&world).await;
    world.failure(POLICY).run(failure(&record.message, "archive", "AccessDenied")).await.unwrap();
    world.cache.put(record.id(), PAYLOAD.into()).await.unwrap();
    advance(&world, Duration::from_hours(6));
    assert_eq!(reconcile(&world).await.undecided, 1);
    assert!(
        !world.cache.is_persisted(record.id()),
        "it is preserved, and nobody would remove it from the cache"
    );
}

/// A record with an idempotency key that cannot be started.
async fn claimed(world: &World) -> (OpenRecord, IdempotencyKey) {
    world.workflow.fail_with(Some(ErrorName::AccessDenied));
    let now = world.clock.now();
    let key = IdempotencyKey::of_header("caller", "key").unwrap();
    let message = samples::message_of(world.clock.mint(), PAYLOAD);
    let record = OpenRecord::begin(message, Durability::Archived, Some(key), now, now.after(FIRST_LOOK));
    let claim = Claim::new(&record.message, Durability::Archived, now);
    let request = ClaimRequest { key, claim, replaces: None };
    world.open_records.accept(&record, Some(&request)).await.unwrap();
    (record, key)
}

#[tokio::test]
async fn a_claim_is_renewed_from_half_its_lifetime_on() {
    for (ms_after_half, is_renewed) in [(-1, false), (0, true)] {
        let world = World::default();
        let (_, key) = claimed(&world).await;
        let first_expiry = world.open_records.claims()[&key].expires_at;
        advance(&world, CLAIM_LIFETIME / 2);
        world.clock.advance_ms(ms_after_half);
        assert_eq!(reconcile(&world).await.due, 1);
        let renewed_expiry = world.clock.now().after(CLAIM_LIFETIME);
        let expected = if is_renewed { renewed_expiry } else { first_expiry };
        assert_eq!(world.open_records.claims()[&key].expires_at, expected, "{ms_after_half} ms after half");
    }
}

#[tokio::test]
async fn the_claim_of_an_open_record_is_renewed() {
    let world = World::default();
    let (record, key) = claimed(&world).await;
    // The loop takes longer than the table keeps a claim that nobody renews.
    for _ in 0..24 * 10 {
        advance(&world, Duration::from_hours(1));
        reconcile(&world).await;
        world.open_records.expire_claims(world.clock.now());
    }
    assert!(world.open_records.get(record.id()).is_some());
    assert!(!world.open_records.claims()[&key].is_expired(world.clock.now()));
}
