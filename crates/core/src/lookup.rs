//! The lookup of a record in the acceptance markers, the open-record table and the record table.

use crate::{
    attempt::Attempt,
    error::StageError,
    open_record::OpenRecord,
    ports::{AcceptanceMarkers, ItemState, OpenRecords, RecordTable},
    record_id::RecordId,
};

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The open record in the record's acceptance marker, if reconcile has not adopted the marker yet.
    pub marker: Option<OpenRecord>,
    /// The open record; `None` if the record is closed, or if its marker is not adopted yet.
    pub open: Option<OpenRecord>,
    /// The state of the record's item in the record table.
    pub item: Option<ItemState>,
}

impl Found {
    /// Whether any of these stores knows the record. Every record that has a receipt is known.
    pub fn is_known(&self) -> bool {
        self.marker.is_some() || self.open.is_some() || self.item.is_some()
    }
}

/// Looks up a record. The stores are read consistently, in the order in which a record moves through them, so that a
/// record that moves during the lookup is found in one of them.
pub async fn look_up(
    markers: &impl AcceptanceMarkers,
    open: &impl OpenRecords,
    table: &impl RecordTable,
    id: RecordId,
) -> Result<Found, StageError> {
    let marker = markers.find(Attempt::first(id)).await?;
    let open = open.find(id).await?;
    let item = table.states(&[id]).await?.remove(&id);
    Ok(Found { marker, open, item })
}

#[cfg(test)]
mod tests;
