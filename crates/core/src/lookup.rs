//! The lookup of a record: everything that the stores of acceptance and completion know of it.

use crate::{
    attempt::Attempt,
    error::StageError,
    open_record::OpenRecord,
    ports::{AcceptanceMarkers, ItemState, OpenRecords, RecordTable},
    record_id::RecordId,
};

/// What is known of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The open record in its acceptance marker, which waits for its adoption.
    pub marker: Option<OpenRecord>,
    /// The open record; `None` where the record is closed, or is not adopted yet.
    pub open: Option<OpenRecord>,
    /// The state of its item in the record table.
    pub item: Option<ItemState>,
}

impl Found {
    /// Whether anything is known of the record. Something is known of each record that has a receipt.
    pub fn is_known(&self) -> bool {
        self.marker.is_some() || self.open.is_some() || self.item.is_some()
    }
}

/// Looks a record up. The stores are read consistently, and in the order in which a record moves through them, so that a
/// record that moves meanwhile is found in one of them.
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
