//! Tests of closing: a record is closed after it was announced and unlinked.

use super::*;

#[tokio::test]
async fn a_complete_record_is_announced_in_order_unlinked_and_closed() {
    let world = World::default();
    let record = accepted(&world).await;
    complete(&world, &record).await;
    advance(&world, FIRST_LOOK);
    assert_eq!(reconcile(&world).await.closed, 1);
    let id = record.id();
    assert!(world.open_records.get(id).is_none() && !world.cache.holds(id));
    let ids: Vec<_> = world.topic.published().iter().map(|told| told.body["id"].clone()).collect();
    let expected =
        ["received", "archived", "metadata-stored", "completed"].map(|name| format!("{id}/{name}/1"));
    assert_eq!(ids, expected);
    assert!(world.workflow.names().is_empty(), "what is complete is not started again");
}

#[tokio::test]
async fn a_record_stays_open_until_it_is_announced_and_unlinked() {
    let world = World::default();
    let record = accepted(&world).await;
    complete(&world, &record).await;
    advance(&world, FIRST_LOOK);
    world.topic.fail_with(Some(ErrorName::AccessDenied));
    assert_eq!(reconcile(&world).await.stuck, 1);
    assert!(world.open_records.get(record.id()).is_some());
    world.topic.fail_with(None);
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    advance(&world, MAX_LOOK_INTERVAL);
    reconcile(&world).await;
    assert!(
        world.open_records.get(record.id()).is_some(),
        "a record is closed only after its payload is unlinked"
    );
    world.cache.fail_with(None);
    advance(&world, MAX_LOOK_INTERVAL);
    assert_eq!(reconcile(&world).await.closed, 1);
    let told = world.topic.published();
    for one in &told {
        let same = told.iter().filter(|other| other.body["id"] == one.body["id"]);
        assert!(same.into_iter().all(|other| other == one), "one id, one content");
    }
}

#[tokio::test]
async fn a_discarded_record_is_closed_after_the_discard_was_announced() {
    let world = World::default();
    let record = accepted(&world).await;
    world.failure(POLICY).run(failure(&record.message, "archive", "AccessDenied")).await.unwrap();
    let discard = Discard { by: "operator".into(), at: world.clock.now(), reason: "withdrawn".into() };
    assert!(world.record_table.discard(record.attempt(), &discard).await.unwrap());
    advance(&world, Duration::from_hours(7));
    world.topic.fail_with(Some(ErrorName::AccessDenied));
    assert_eq!(reconcile(&world).await.stuck, 1);
    assert!(world.open_records.get(record.id()).is_some(), "nobody was told");
    world.topic.fail_with(None);
    advance(&world, MAX_LOOK_INTERVAL);
    assert_eq!(reconcile(&world).await.closed, 1);
    assert!(world.open_records.all().is_empty());
    let told = world.topic.published();
    let last = &told.last().unwrap().body;
    assert_eq!(last["type"], "custody.message.discarded.v1");
    assert_eq!(last["id"], format!("{}/discarded/1", record.id()));
    assert_eq!(last["time"], discard.at.to_string(), "the time of the decision");
    assert_eq!(last["data"]["discard"], serde_json::json!({"reason": "withdrawn"}));
}

#[tokio::test]
async fn a_record_that_was_completed_after_it_had_failed_is_announced_as_its_next_attempt() {
    let world = World::default();
    let record = accepted(&world).await;
    // One execution of the attempt fails, and another, late one completes the record.
    world.failure(POLICY).run(failure(&record.message, "metadata", "AccessDenied")).await.unwrap();
    complete(&world, &record).await;
    advance(&world, Duration::from_hours(6));
    assert_eq!(reconcile(&world).await.closed, 1);
    let told = world.topic.published();
    let ids: Vec<_> = told.iter().map(|told| told.body["id"].as_str().unwrap().to_owned()).collect();
    let events = ["failed/1", "received/2", "archived/2", "metadata-stored/2", "completed/2"];
    assert_eq!(ids, events.map(|event| format!("{}/{event}", record.id())), "an id has one content");
}
