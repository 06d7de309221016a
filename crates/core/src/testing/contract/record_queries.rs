//! The contract of questions to the record table.

use std::{collections::BTreeSet, time::Duration};

use super::{failure_of, now};
use crate::{
    message::InternalMessage,
    metadata::MessageMetadata,
    ports::{CompletionTimes, Discard, NotedDiscard, RecordQueries, RecordTable},
    record_id::RecordId,
    record_query::{Lookup, PageRequest, RecordStatus, TimeRange},
    testing::samples,
};

/// Creates the message of a record of this source, received this many milliseconds after the start of the test clock.
fn message_of(source: &str, transaction: &str, after_ms: u64) -> InternalMessage {
    let id = RecordId::mint(now().after(Duration::from_millis(after_ms)));
    let text = format!(
        r#"{{"messageType":"sample","sourceSystemID":"{source}","sourceTransactionID":"{transaction}","dateTime":"2026-11-20T22:20:59Z","x":[1,2.5]}}"#
    );
    let metadata = MessageMetadata::parse(&text, 0).expect("the sample metadata is valid");
    InternalMessage { metadata, ..samples::message_of(id, b"payload") }
}

/// Checks the contract of [`RecordQueries`] on the records in `table`.
pub async fn record_queries(table: &impl RecordTable, queries: &impl RecordQueries) {
    an_item_has_all_that_was_stored(table, queries).await;
    pages_have_each_record_once(table, queries).await;
    a_failed_item_has_its_failure_and_its_discard(table, queries).await;
    an_item_has_the_attempt_that_ended_and_the_failures_before(table, queries).await;
}

async fn an_item_has_the_attempt_that_ended_and_the_failures_before(
    table: &impl RecordTable,
    queries: &impl RecordQueries,
) {
    let message = message_of("queries", "tx", 0);
    let id = message.message_id;
    let item = async || queries.item(id).await.unwrap().unwrap();
    table.fail(&message, &failure_of(&message)).await.unwrap();
    assert_eq!(item().await.message.redrive, None);
    let second = samples::redriven(&message);
    table.put_received(&second, now()).await.unwrap();
    assert_eq!(item().await.message.redrive, None, "the second attempt is not at its end");
    table.fail(&second, &failure_of(&second)).await.unwrap();
    assert_eq!(item().await.message.redrive, second.redrive);
    let third = samples::redriven(&second);
    let times = CompletionTimes { archived_at: now(), completed_at: now() };
    table.complete(&third, times).await.unwrap();
    let stored = item().await;
    assert_eq!((stored.status, stored.message.attempt().number()), (RecordStatus::Completed, 3));
    assert_eq!(stored.message.history(), third.history());
}

async fn an_item_has_all_that_was_stored(table: &impl RecordTable, queries: &impl RecordQueries) {
    let mut message = message_of("queries", "tx", 0);
    assert_eq!(queries.item(message.message_id).await.unwrap(), None);
    table.put_received(&message, now()).await.unwrap();
    let item = queries.item(message.message_id).await.unwrap().unwrap();
    assert_eq!((item.status, item.stored_at), (RecordStatus::Received, Some(now())));
    assert_eq!((item.archived_at, item.completed_at), (None, None));
    assert_eq!(item.message, message);
    message.storage_context.persistence.s3 = true;
    let later = now().after(Duration::from_secs(5));
    let times = CompletionTimes { archived_at: now(), completed_at: later };
    table.complete(&message, times).await.unwrap();
    let item = queries.item(message.message_id).await.unwrap().unwrap();
    assert_eq!(item.status, RecordStatus::Completed);
    assert_eq!((item.archived_at, item.completed_at), (Some(now()), Some(later)));
    assert_eq!(item.message, message, "with the references of the completion");
    assert!(item.failure.is_none() && item.discarded.is_none());
}

async fn a_failed_item_has_its_failure_and_its_discard(
    table: &impl RecordTable,
    queries: &impl RecordQueries,
) {
    let message = message_of("queries", "tx", 0);
    let failure = failure_of(&message);
    table.fail(&message, &failure).await.unwrap();
    let discard = Discard { by: "an operator".to_owned(), at: now(), reason: "a test".to_owned() };
    assert!(table.discard(message.attempt(), &discard).await.unwrap());
    let item = queries.item(message.message_id).await.unwrap().unwrap();
    assert_eq!((item.status, item.failure), (RecordStatus::Failed, Some(failure)));
    assert_eq!(item.discarded, Some(NotedDiscard { attempt: 1, discard }));
}

async fn pages_have_each_record_once(table: &impl RecordTable, queries: &impl RecordQueries) {
    let source = format!("pages-{}", samples::record_id());
    let mut ids = BTreeSet::new();
    // Several records share a time, so that their ids decide about their order.
    for number in 0..30 {
        let message = message_of(&source, &format!("{source}-tx-{}", number % 2), 10 * (number / 4));
        ids.insert(message.message_id);
        table.put_received(&message, now()).await.unwrap();
        if number % 3 == 0 {
            let times = CompletionTimes { archived_at: now(), completed_at: now() };
            table.complete(&message, times).await.unwrap();
        }
    }
    let other = message_of(&format!("{source}-other"), "tx", 0);
    table.put_received(&other, now()).await.unwrap();
    let by_source = PageRequest {
        lookup: Lookup::Source(source.clone()),
        range: TimeRange::default(),
        status: None,
        sources: None,
        after: None,
        limit: 7,
    };
    assert_eq!(all_pages(queries, by_source.clone()).await.into_iter().collect::<BTreeSet<_>>(), ids);
    for limit in [1, 30, 100] {
        assert_eq!(all_pages(queries, PageRequest { limit, ..by_source.clone() }).await.len(), 30, "{limit}");
    }
    let completed = PageRequest { status: Some(RecordStatus::Completed), ..by_source.clone() };
    assert_eq!(all_pages(queries, completed).await.len(), 10);
    let none = PageRequest { status: Some(RecordStatus::Failed), ..by_source.clone() };
    assert_eq!(all_pages(queries, none).await, []);
    let transaction = Lookup::Transaction(format!("{source}-tx-1"));
    assert_eq!(all_pages(queries, PageRequest { lookup: transaction, ..by_source.clone() }).await.len(), 15);
    let own = Some(vec![source.parse().unwrap()]);
    assert_eq!(all_pages(queries, PageRequest { sources: own, ..by_source.clone() }).await.len(), 30);
    let others = Some(vec!["others-*".parse().unwrap()]);
    assert_eq!(all_pages(queries, PageRequest { sources: others, limit: 1, ..by_source.clone() }).await, []);
    let reversed = TimeRange { from: Some(now().after(Duration::from_secs(9))), to: Some(now()) };
    assert_eq!(all_pages(queries, PageRequest { range: reversed, ..by_source.clone() }).await, []);
    let at = |ms| Some(now().after(Duration::from_millis(ms)));
    let range = TimeRange { from: at(10), to: at(20) };
    assert_eq!(
        all_pages(queries, PageRequest { range, ..by_source }).await.len(),
        8,
        "both bounds are inclusive"
    );
}

/// Reads all pages. Checks that they are in order, that no page exceeds the limit, and that no record comes twice.
async fn all_pages(queries: &impl RecordQueries, mut request: PageRequest) -> Vec<RecordId> {
    let mut ids = Vec::new();
    let mut last: Option<RecordId> = None;
    for _ in 0..200 {
        let page = queries.page(&request).await.unwrap();
        assert!(page.records.len() <= request.limit);
        for record in page.records {
            let id = record.message_id;
            assert!(last.is_none_or(|last| id < last), "newest first, and each record once");
            last = Some(id);
            ids.push(id);
        }
        if page.next.is_none() {
            return ids;
        }
        request.after = page.next;
    }
    panic!("the pages do not end");
}
