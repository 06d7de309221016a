//! Tests of the reconcile stage: work that is due is done once, and no record is given up too early.

mod adopting;
mod backlog;
mod closing;
mod failing;
mod missing_payloads;
mod starting;
mod upkeep;

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join;
use tokio::task::yield_now;

use crate::{
    attempt::Attempt,
    clock::Clock as _,
    dead_letter::FailureSummary,
    error::ErrorName,
    idempotency::{CLAIM_LIFETIME, Claim, ClaimRequest, IdempotencyKey},
    open_record::{OpenRecord, OpenState},
    ports::{
        AcceptanceMarkers as _, CompletionTimes, Discard, OpenRecords as _, PayloadCache as _,
        RecordTable as _,
    },
    receipt::Durability,
    redrive_policy::PATIENCE,
    stages::{
        failure::LOSS_CONFIRMATION,
        reconcile::{MAX_LOOK_INTERVAL, Report, Settings},
        scenarios::{PAYLOAD, accepted, failure},
    },
    testing::{
        samples,
        world::{FIRST_LOOK, POLICY, SETTINGS, World},
    },
};

async fn reconcile(world: &World) -> Report {
    world.reconcile(SETTINGS).run().await.unwrap()
}

fn advance(world: &World, duration: Duration) {
    world.clock.advance_ms(i64::try_from(duration.as_millis()).unwrap());
}

/// Waits until something that happens at the same time has come this far.
async fn until(is_reached: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if is_reached() {
            return;
        }
        yield_now().await;
    }
    panic!("it never comes this far");
}

/// Changes the state of a record's item to `COMPLETED`, as the workflow does before it closes the record.
async fn complete(world: &World, record: &OpenRecord) {
    let now = world.clock.now();
    let stored = world.record_table.put_received(&record.message, now).await.unwrap();
    let mut done = record.message.clone();
    let archived = world.archive_stage().run(&record.message).await.unwrap();
    done.storage_context.redis_reference = None;
    done.storage_context.s3_reference = Some(archived.s3_reference);
    done.storage_context.metadata_reference = Some(stored.reference);
    done.storage_context.persistence.s3 = true;
    done.storage_context.persistence.metadata = true;
    let times = CompletionTimes { archived_at: archived.archived_at, completed_at: now };
    world.record_table.complete(&done, times).await.unwrap();
}
