//! Simulates producers, which post requests and check the answers.

use std::{sync::Arc, time::Duration};

use custody_core::receipt::Receipt;

use crate::{
    ledger::Acknowledged,
    platform,
    requests::{Form, Request},
    watch,
    world::World,
};

/// Posts a request until an answer does not ask for another try, or until the producer gives up. Returns whether the
/// request was accepted.
pub(crate) async fn post(world: Arc<World>, request: Request, tries: u64, crashes: u64) -> bool {
    if let Some(uri) = &request.reference {
        world.stores.staging.set_source(uri, Some(&request.content));
    }
    for _ in 0..tries {
        let answer = platform::post(Arc::clone(&world), request.event.clone(), crashes).await;
        let status = answer.as_ref().map(|answer| answer.status_code);
        world.note(|| format!("{:?}, keyed {}: {status:?}", request.form, request.is_keyed));
        world.ledger().counts.add("answer", status.map_or("none".to_owned(), |status| status.to_string()));
        match answer {
            Some(answer) if answer.status_code == 200 => {
                let replayed = answer.headers.contains_key("Idempotency-Replayed");
                let receipt: Receipt = serde_json::from_str(&answer.body).expect("a receipt is JSON");
                check_receipt(&world, &request, receipt, replayed);
                return true;
            }
            Some(answer) if answer.status_code == 409 => {
                world.ledger().situation("a key with another content");
                return false;
            }
            Some(answer) if answer.status_code < 500 => {
                // A denial of the staging area looks like one of the producer's object.
                let is_denial = answer.body.contains("reference-unreadable");
                if request.form != Form::Malformed && !is_denial {
                    world.ledger().violated(format!("a valid request was rejected: {}", answer.body));
                }
                return false;
            }
            answer => {
                if answer.is_some_and(|answer| answer.body.contains("reference-not-copied")) {
                    world.ledger().situation("a copy that was not finished in time");
                }
                world.scheduler.sleep(Duration::from_secs(7)).await;
            }
        }
    }
    false
}

/// Checks that a receipt is for this request's content, and that its record is accepted and durable. This also applies
/// to a receipt that repeats another one.
fn check_receipt(world: &World, request: &Request, receipt: Receipt, replayed: bool) {
    let id = receipt.message_id;
    if receipt.payload.sha256 != request.digest() {
        world.ledger().violated(format!("record {id} has a receipt with another digest than its content"));
    }
    watch::check_receipt_given(world, id, receipt.durability);
    let mut ledger = world.ledger();
    if replayed {
        ledger.situation("a receipt was repeated");
    }
    let known = ledger.record(id);
    let first = known.durability;
    if first.is_some_and(|first| first != receipt.durability) {
        let text =
            format!("record {id}: accepted as {first:?}, but its receipt has {:?}", receipt.durability);
        ledger.violated(text);
    }
    ledger.note(|| format!("receipt of {id}, {:?}, replayed {replayed}", receipt.durability));
    ledger.receipts.push(Acknowledged { receipt, content: request.content.clone() });
}
