//! The lookup of a record in the acceptance markers, the open-record table and the record table.

use crate::{
    attempt::Attempt,
    error::StageError,
    open_record::OpenRecord,
    ports::{AcceptanceMarkers, ItemState, OpenRecords, RecordTable},
    record_id::RecordId,
};

/// The result of a lookup: what each store has of the record, or why the store cannot be read.
#[derive(Debug)]
pub struct Found {
    /// The open record in the record's acceptance marker, if reconcile has not adopted the marker yet.
    pub marker: Result<Option<OpenRecord>, StageError>,
    /// The open record; `None` if the record is closed, or if its marker is not adopted yet.
    pub open: Result<Option<OpenRecord>, StageError>,
    /// The state of the record's item in the record table.
    pub item: Result<Option<ItemState>, StageError>,
}

/// Looks up a record. If every store can be read, one of them has each record that has a receipt. The stores are read consistently, in the order in which a record moves through them, so that a
/// record that moves during the lookup is found in one of them.
pub async fn look_up(
    markers: &impl AcceptanceMarkers,
    open: &impl OpenRecords,
    table: &impl RecordTable,
    id: RecordId,
) -> Found {
    let marker = markers.find(Attempt::first(id)).await;
    let open = open.find(id).await;
    let item = table.states(&[id]).await.map(|mut states| states.remove(&id));
    Found { marker, open, item }
}

#[cfg(test)]
mod tests;
