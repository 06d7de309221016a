//! Checks what must never happen. Each check runs at the moment of an effect, whichever process causes the effect.

use custody_core::{
    attempt::Attempt,
    dead_letter::DeadLetter,
    error::{ErrorKind, ErrorName},
    idempotency::IdempotencyKey,
    open_record::{OpenRecord, OpenState},
    ports::Discard,
    receipt::Durability,
    record_id::RecordId,
    testing::doubles::Item,
};

use crate::{
    process::{Process, Role},
    world::World,
};

/// The caller of an effect: its role, and the time at which its current invocation began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    role: Role,
    began_ms: i64,
}

impl Caller {
    pub(crate) fn of(process: &Process) -> Self {
        Self { role: process.role(), began_ms: process.began_ms() }
    }
}

/// Returns whether some store has the payload of a record in such a way that the loss of one node does not lose it.
/// Also returns `true` after a loss that the durability level of the cache does not promise to survive.
pub(crate) fn is_safe(world: &World, id: RecordId) -> bool {
    is_in_s3(world, id) || world.stores.cache.is_replicated(id) || world.ledger().record(id).is_lost
}

/// Returns whether the archive or the failed bucket has the payload of a record.
pub(crate) fn is_in_s3(world: &World, id: RecordId) -> bool {
    world.stores.archive.content(&id.archive_key()).is_some()
        || world.stores.failed_store.content(&id.preserved_key()).is_some()
}

/// The facts that the stores have about a record at one moment.
#[derive(Debug)]
pub(crate) struct Facts {
    id: RecordId,
    open: Option<OpenRecord>,
    item: Option<Item>,
    marker: Option<OpenRecord>,
}

impl Facts {
    pub(crate) fn of(world: &World, id: RecordId) -> Self {
        let stores = &world.stores;
        Self {
            id,
            open: stores.open_records.get(id),
            item: stores.record_table.item(id),
            marker: stores.markers.open_record(id),
        }
    }

    fn status(&self) -> Option<&'static str> {
        self.item.as_ref().map(|item| item.status)
    }

    fn is_complete(&self) -> bool {
        self.status() == Some("COMPLETED")
    }

    fn discarded(&self) -> Option<u32> {
        self.item.as_ref().and_then(|item| item.discarded)
    }
}

/// Checks what has changed since `before`: whichever effect of the caller has changed it, the change must be allowed.
/// Returns whether the open record or the item has changed.
pub(crate) fn check_change(world: &World, caller: Caller, before: &Facts) -> bool {
    let after = Facts::of(world, before.id);
    if let (None, Some(marked)) = (&before.marker, &after.marker) {
        check_marker(world, marked);
    }
    match (&before.open, &after.open) {
        (None, Some(opened)) => check_acceptance(world, caller, opened),
        (Some(closed), None) => check_close(world, closed),
        (Some(before), Some(after)) if before.attempt() != after.attempt() => {
            check_redrive(world, caller, before, after);
        }
        (Some(before), Some(after)) => {
            if before.kind() != after.kind() {
                check_failure(world, after);
            }
            if before.missing_since.is_none() && after.missing_since.is_some() {
                check_missing(world, after.id());
            }
        }
        (None, None) => {}
    }
    if !before.is_complete() && after.is_complete() {
        check_completion(world, after.id);
    }
    if before.discarded() != after.discarded()
        && let Some(attempt) = after.discarded()
    {
        note_discard(world, Attempt::new(after.id, attempt));
    }
    before.open != after.open || before.status() != after.status()
}

/// Notes that a marker was stored, and checks that the payload is durable: the marker accepts the record.
fn check_marker(world: &World, record: &OpenRecord) {
    check_durable(world, record.id(), "marked");
    let mut ledger = world.ledger();
    ledger.situation("accepted by a marker");
    ledger.accepted(record, None);
}

/// Checks an acceptance that has opened a record.
fn check_acceptance(world: &World, caller: Caller, record: &OpenRecord) {
    let id = record.id();
    let claims = world.stores.open_records.claims();
    let claim = record.key.and_then(|key| claims.get(&key).filter(|claim| claim.message_id == id));
    check_durable(world, id, "accepted");
    if let Some(key) = record.key.filter(|_| claim.is_some()) {
        check_key(world, id, key);
    }
    let mut ledger = world.ledger();
    let known = ledger.record(id);
    let reopened = known.closed.take().map(|(closed_ms, _)| (closed_ms, known.is_discarded));
    match (reopened, caller.role) {
        (None, _) => {}
        (Some((_, true)), Role::Redrive { forced: true, .. }) => {
            known.is_discarded = false;
            ledger.situation("reopened a discarded record");
        }
        // The caller began before the record was closed, and accepts it again. Nothing is started for the record again.
        (Some((closed_ms, _)), Role::Ingest | Role::Reconcile) if closed_ms >= caller.began_ms => {
            ledger.situation("closed while its acceptance was repeated");
        }
        (Some(_), role) => ledger.violated(format!("record {id} was closed, and {role:?} opened it again")),
    }
    ledger.accepted(record, claim);
    ledger.note(|| format!("{} is open, {:?}, by {:?}", record.attempt(), record.durability, caller.role));
}

fn check_durable(world: &World, id: RecordId, how: &str) {
    if !is_safe(world, id) {
        world.ledger().violated(format!("record {id} was {how}, and no store has its payload durably"));
    }
}

/// Checks that a key belongs to one record while its claim lives: for a day, and as long as the record is open.
fn check_key(world: &World, id: RecordId, key: IdempotencyKey) {
    let now = world.now();
    let mut ledger = world.ledger();
    let others: Vec<_> = ledger
        .records
        .iter()
        .filter(|(other, known)| **other != id && known.key == Some(key))
        .map(|(other, known)| (*other, known.claimed_until.is_some_and(|until| now < until)))
        .collect();
    for (other, is_claimed) in others {
        if is_claimed || world.stores.open_records.get(other).is_some() {
            ledger.violated(format!("records {other} and {id} were both accepted under one key"));
        } else {
            ledger.situation("a key was used again after its claim's life");
        }
    }
}

/// Checks a note that a record's payload is in no store.
fn check_missing(world: &World, id: RecordId) {
    let mut ledger = world.ledger();
    ledger.situation("a payload was seen in no store");
    let known = ledger.record(id);
    if !known.is_lost && !known.was_temporarily_absent {
        ledger.violated(format!("record {id} was seen in no store, but no store has lost its payload"));
    }
}

/// Checks an attempt that has failed, or is no longer failed.
fn check_failure(world: &World, stored: &OpenRecord) {
    let OpenState::Failed { failure, .. } = &stored.state else {
        world.ledger().violated(format!("{} had failed, and is in progress again", stored.attempt()));
        return;
    };
    let id = stored.id();
    let mut ledger = world.ledger();
    ledger.counts.add("attempt failed", format!("{:?} {}", failure.kind, failure.error_name));
    ledger.note(|| format!("{} failed: {} {}", stored.attempt(), failure.error_name, failure.reason));
    if failure.error_name == ErrorName::PayloadLost.as_str() {
        let is_durable = world.setup.is_durable;
        let known = ledger.record(id);
        if !known.is_lost || is_durable {
            ledger.violated(format!("record {id} counts as lost, and no store has lost it"));
        }
    }
}

/// Checks a redrive, by which the next attempt follows a failed one.
fn check_redrive(world: &World, caller: Caller, before: &OpenRecord, stored: &OpenRecord) {
    let is_complete =
        world.stores.record_table.item(before.id()).is_some_and(|item| item.status == "COMPLETED");
    let mut ledger = world.ledger();
    let OpenState::Failed { failure, .. } = &before.state else {
        ledger.violated(format!("{} had not failed, and {} began", before.attempt(), stored.attempt()));
        return;
    };
    let is_due = match caller.role {
        Role::Redrive { failed, .. } => failed == before.attempt(),
        Role::Reconcile => {
            is_complete || world.setup.policy.automatic && failure.kind == ErrorKind::Transient
        }
        _ => false,
    };
    if !is_due || before.attempt().next() != stored.attempt() {
        let role = caller.role;
        ledger.violated(format!("{role:?} began {} after {}", stored.attempt(), before.attempt()));
    }
    ledger.situation(match caller.role {
        _ if is_complete => "a failed attempt's record was complete",
        Role::Reconcile => "redriven automatically",
        _ => "redriven",
    });
    ledger.note(|| format!("{} begins, by {:?}", stored.attempt(), caller.role));
}

/// Checks a record that was closed.
fn check_close(world: &World, closed: &OpenRecord) {
    let (id, attempt) = (closed.id(), closed.attempt());
    let item = world.stores.record_table.item(id);
    let is_persisted = world.stores.cache.is_persisted(id);
    let mut ledger = world.ledger();
    ledger.note(|| format!("{attempt} closed"));
    ledger.record(id).closed = Some((world.scheduler.now_ms(), attempt));
    if is_persisted {
        ledger.violated(format!("record {id} was closed, and the cache holds its payload without an expiry"));
    }
    match item {
        Some(item) if item.status == "COMPLETED" => check_announced(&mut ledger, attempt),
        Some(item) if crate::invariants::is_discarded(&item, attempt) => {
            check_discard_announced(&mut ledger, id, item.discarded);
        }
        item => {
            let status = item.map(|item| item.status);
            ledger.violated(format!("record {id} was closed, and its item is {status:?}"));
        }
    }
}

/// Checks that subscribers were told of a discard.
fn check_discard_announced(ledger: &mut crate::ledger::Ledger, id: RecordId, attempt: Option<u32>) {
    let event = format!("{id}/discarded/{}", attempt.unwrap_or_default());
    if ledger.published.contains_key(&event) {
        ledger.situation("a discard was announced");
    } else {
        ledger.violated(format!("{id} was closed, and {event} was never announced"));
    }
}

/// Checks that all four announcements of an attempt were published, `completed` after the others.
fn check_announced(ledger: &mut crate::ledger::Ledger, attempt: Attempt) {
    let mut places = Vec::new();
    for name in ["received", "archived", "metadata-stored", "completed"] {
        let event = format!("{}/{name}/{}", attempt.record, attempt.number());
        match ledger.published.get(&event) {
            Some(published) => places.push(published.place),
            None => ledger.violated(format!("{attempt} was closed, and {name} was never announced")),
        }
    }
    if places.len() == 4 && places.iter().max() != places.last() {
        ledger.violated(format!("{attempt} was announced as completed before the rest"));
    }
}

/// Checks an item that was set to completed.
fn check_completion(world: &World, id: RecordId) {
    if world.stores.archive.content(&id.archive_key()).is_none() {
        world.ledger().violated(format!("record {id} is COMPLETED, and the archive does not have it"));
    }
}

/// Notes that an operator has discarded a record.
fn note_discard(world: &World, attempt: Attempt) {
    let mut ledger = world.ledger();
    ledger.situation("discarded");
    ledger.note(|| format!("{attempt} discarded"));
    ledger.record(attempt.record).is_discarded = true;
}

/// Notes that a dead letter was sent.
pub(crate) fn note_dead_letter(world: &World, dead_letter: &DeadLetter) {
    let mut ledger = world.ledger();
    ledger.note(|| format!("dead letter: {:?} {}", dead_letter.attempt(), dead_letter.failure.error_name));
    if let Some(attempt) = dead_letter.attempt() {
        ledger.record(attempt.record).dead_letters.insert(attempt.number());
        ledger.situation("dead letter of a record");
    } else {
        ledger.situation("dead letter of a request");
    }
}

/// Notes that the cache has lost these payloads with all nodes that had them.
pub(crate) fn note_loss(world: &World, records: &[RecordId]) {
    let mut ledger = world.ledger();
    for id in records {
        ledger.record(*id).is_lost = true;
    }
}

/// Checks a receipt that a producer was given for this record.
pub(crate) fn check_receipt_given(world: &World, id: RecordId, durability: Durability) {
    if !is_safe(world, id) {
        world.ledger().violated(format!("record {id} has a receipt, and no store has its payload durably"));
    }
    let mut ledger = world.ledger();
    ledger.counts.add("receipt", format!("{durability:?}"));
    let known = ledger.record(id);
    if known.accepted.is_none() {
        ledger.violated(format!("record {id} has a receipt, and was not accepted"));
    }
}

/// Returns what an operator writes when discarding.
pub(crate) fn discard(world: &World) -> Discard {
    Discard { by: "operator".to_owned(), at: world.now(), reason: "seen".to_owned() }
}
