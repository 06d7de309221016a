//! Whether the payload of a record is in no store: looked for in the direction in which payloads move.

use crate::{
    error::{ErrorKind, StageError},
    message::InternalMessage,
    ports::{FailedStore, PayloadArchive, PayloadCache},
    stages::archive,
};

/// Whether a payload is in none of the stores, each of which has answered.
///
/// The cache is asked first and the archive last, because payloads move from there to there: what is being moved while this
/// looks is seen where it comes from, or where it goes to. A store that cannot be asked is an error, unless another one has
/// the payload: only definite absence counts.
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
    match archive::confirm(archive, message).await {
        Ok(Some(_)) => return Ok(false),
        Ok(None) => {}
        // Another object holds the key, so this record's is not there.
        Err(error) if error.kind() == ErrorKind::Conflict => {}
        Err(error) => return Err(error),
    }
    cached?;
    preserved?;
    Ok(true)
}
