//! Simulates operators, who redrive dead letters and discard records, and SQS between them and the redrive function,
//! which delivers late, twice and out of order.

use std::{sync::Arc, time::Duration};

use custody_core::{
    dead_letter::DeadLetter,
    open_record::OpenState,
    ports::{OpenRecords as _, RecordTable as _},
    stages::redrive::{FORCE_ATTRIBUTE, Redrive},
    testing::world::FIRST_LOOK,
};
use serde_json::json;

use crate::{
    chance::Chance as _,
    ports::{Ports, Simulated},
    process::{Process, Role, invoke},
    watch,
    world::World,
};

/// The number of times that SQS delivers a message of the redrive queue before the message goes to the dead-letter
/// queue.
const MAX_RECEIVES: u32 = 4;

/// Moves every dead letter to the redrive queue.
pub(crate) fn redrive_all_dead_letters(world: &Arc<World>, forced: bool) {
    for dead_letter in world.stores.dead_letters.take() {
        deliver(world, &dead_letter, forced);
    }
}

/// Redrives every failed record from its open record, because its dead letter may have expired.
pub(crate) fn redrive_from_open_records(world: &Arc<World>) {
    for open in world.stores.open_records.all() {
        if let OpenState::Failed { failure, pending_steps } = &open.state
            && pending_steps.is_empty()
        {
            deliver(world, &DeadLetter::of_record(&open.message, failure.clone(), Vec::new()), true);
        }
    }
}

/// Delivers a dead letter to the redrive function, sometimes twice: SQS delivers a message at least once.
fn deliver(world: &Arc<World>, dead_letter: &DeadLetter, forced: bool) {
    let twice = world.chance().percent(25);
    if twice {
        world.ledger().situation("a dead letter was delivered twice");
    }
    for _ in 0..=usize::from(twice) {
        let scale = world.chance().one_of(&[100, 5_000, 900_000]);
        let delay = Duration::from_millis(world.chance().below(scale));
        note(world, dead_letter, delay);
        world.executions().begin_late();
        let (world, dead_letter) = (Arc::clone(world), dead_letter.clone());
        world.clone().scheduler.spawn(async move {
            world.scheduler.sleep(delay).await;
            Box::pin(redrive(&world, &dead_letter, forced)).await;
            world.executions().end_late();
        });
    }
}

/// Notes when a redrive is due, after it was sent, as `custody dlq redrive` does: early, late or never.
fn note(world: &Arc<World>, dead_letter: &DeadLetter, delay: Duration) {
    let Some(attempt) = dead_letter.attempt() else { return };
    let (world, due) = (Arc::clone(world), world.now().after(delay));
    world.clone().scheduler.spawn(async move {
        let process = Process::new(Role::Stage, world.scheduler.now_ms());
        let ports = Ports::of(&world, &process);
        let note = async { ports.open_records().note_redrive(attempt, Some(due)).await };
        invoke(&world.scheduler, process, Duration::from_secs(20), note).await.ok();
    });
}

async fn redrive(world: &Arc<World>, dead_letter: &DeadLetter, forced: bool) {
    let Some(failed) = dead_letter.attempt() else { return };
    let attributes = if forced {
        json!({FORCE_ATTRIBUTE: {"stringValue": "true", "dataType": "String"}})
    } else {
        json!({})
    };
    let event = json!({"Records": [{
        "messageId": "m-1", "body": json!(dead_letter).to_string(), "messageAttributes": attributes,
    }]});
    for _ in 0..MAX_RECEIVES {
        let batch = serde_json::from_value(event.clone()).expect("the event is one of SQS");
        let process = Process::new(Role::Redrive { failed, forced }, world.scheduler.now_ms());
        let ports = Ports::of(world, &process);
        let stage = Redrive::<Simulated> {
            open_records: ports.open_records(),
            record_table: ports.record_table(),
            workflow: ports.workflow(),
            dead_letters: ports.dead_letters(),
            clock: ports.clock(),
            policy: world.setup.policy,
            first_look: FIRST_LOOK,
        };
        let limit = Duration::from_mins(1);
        let response =
            invoke(&world.scheduler, process, limit, async { Ok(Box::pin(stage.run(batch)).await) }).await;
        if response.is_ok_and(|response| response.batch_item_failures.is_empty()) {
            return;
        }
        world.scheduler.sleep(Duration::from_mins(6)).await;
    }
    world.ledger().situation("SQS gave up on a message of the redrive queue");
    let queue = &world.stores.dead_letters;
    custody_core::ports::DeadLetters::send(queue, dead_letter).await.ok();
}

/// Discards some of the failed records that have no pending step, with a reason, and makes them due, as `custody dlq discard`
/// does. If an operator is interrupted before the last step, reconcile finds the discard at its next look.
pub(crate) async fn discard_some(world: Arc<World>) {
    let process = Process::new(Role::Stage, world.scheduler.now_ms());
    let ports = Ports::of(&world, &process);
    for open in world.stores.open_records.all() {
        let is_settled =
            matches!(&open.state, OpenState::Failed { pending_steps, .. } if pending_steps.is_empty());
        if !is_settled || world.chance().percent(50) {
            continue;
        }
        let discard = async {
            if ports.record_table().discard(open.attempt(), &watch::discard(&world)).await? {
                ports.open_records().set_pending_steps(open.attempt(), &[], world.now()).await?;
            }
            Ok(())
        };
        invoke(&world.scheduler, process.clone(), Duration::from_secs(20), discard).await.ok();
    }
}
