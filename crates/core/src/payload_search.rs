//! The search for a payload in all stores, in the order in which payloads move.

use crate::{
    error::{ErrorKind, StageError},
    message::InternalMessage,
    ports::{FailedStore, PayloadArchive, PayloadCache},
    stages::archive,
};

/// Returns whether a payload is in none of the stores, each of which has answered.
///
/// The cache is asked first and the archive last, because payloads move in this direction. A payload that moves during
/// the search is therefore seen in the store that it leaves or in the store that it enters. A store that cannot be
/// asked is an error, unless another store has the payload: only definite absence counts.
pub(crate) async fn is_missing(
    cache: &impl PayloadCache,
    failed_store: &impl FailedStore,
    archive: &impl PayloadArchive,
    message: &InternalMessage,
) -> Result<bool, StageError> {
    let id = message.message_id;
    let cached = cache.size(id).await;
    if let Ok(Some(_)) = cached {
        return Ok(false);
    }
    let preserved = failed_store.find(&id.preserved_key()).await;
    if let Ok(Some(_)) = preserved {
        return Ok(false);
    }
    match archive::find_verified(archive, message).await {
        Ok(Some(_)) => return Ok(false),
        Ok(None) => {}
        // Another object has this key, so the archive does not have this record's payload.
        Err(error) if error.kind() == ErrorKind::Conflict => {}
        Err(error) => return Err(error),
    }
    cached?;
    preserved?;
    Ok(true)
}
