//! The contracts of the upload table and of the staging area.

use std::{future::Future, time::Duration};

use bytes::Bytes;

use super::now;
use crate::{
    clock::Timestamp,
    digest::Sha256,
    error::ErrorName,
    idempotency::IdempotencyKey,
    message::{InternalMessage, SecurityContext},
    ports::{StagingArea, UploadLink, Uploads},
    testing::samples,
    upload::{AnnouncedPayload, PayloadReference, UPLOAD_LIFETIME, Upload},
};

/// Returns a new upload of this payload.
pub fn sample_upload(payload: &[u8]) -> Upload {
    let message = samples::message(payload);
    let InternalMessage { message_id, metadata, .. } = message;
    Upload {
        message_id,
        metadata,
        payload: AnnouncedPayload {
            sha256: Some(Sha256::of(payload)),
            size_bytes: payload.len() as u64,
            content_type: "image/png".to_owned(),
        },
        source: None,
        key: IdempotencyKey::of_upload("contract", message_id),
        sender: SecurityContext::default(),
        expires_at: now().after(UPLOAD_LIFETIME),
    }
}

/// Checks the contract of [`Uploads`].
pub async fn uploads(uploads: &impl Uploads) {
    let upload = sample_upload(b"payload");
    assert_eq!(uploads.find(upload.message_id).await.unwrap(), None);
    assert_eq!(uploads.begin(&upload, now()).await.unwrap(), upload);
    assert_eq!(uploads.find(upload.message_id).await.unwrap(), Some(upload.clone()));
    assert_eq!(uploads.begin(&upload, now()).await.unwrap(), upload, "a repeated call");

    let later = Upload { key: upload.key, ..sample_upload(b"other") };
    let just_before = now().after(UPLOAD_LIFETIME.saturating_sub(Duration::from_millis(1)));
    for time in [now(), just_before] {
        assert_eq!(uploads.begin(&later, time).await.unwrap(), upload, "the key has an upload");
    }
    assert_eq!(uploads.find(later.message_id).await.unwrap(), None);
    assert_eq!(
        uploads.begin(&later, upload.expires_at).await.unwrap(),
        later,
        "the upload of the key has expired"
    );
    assert_eq!(uploads.find(later.message_id).await.unwrap(), Some(later));

    let abandoned = sample_upload(b"payload");
    assert_eq!(uploads.of_key(&abandoned.key, now()).await.unwrap(), None);
    uploads.begin(&abandoned, now()).await.unwrap();
    assert_eq!(uploads.of_key(&abandoned.key, now()).await.unwrap(), Some(abandoned.clone()));
    assert_eq!(uploads.of_key(&abandoned.key, abandoned.expires_at).await.unwrap(), None, "it has expired");
    uploads.abandon(&Upload { key: abandoned.key, ..sample_upload(b"payload") }).await.unwrap();
    assert!(uploads.of_key(&abandoned.key, now()).await.unwrap().is_some(), "the key is of another upload");
    for _ in 0..2 {
        uploads.abandon(&abandoned).await.expect("it may be repeated");
        assert_eq!(uploads.of_key(&abandoned.key, now()).await.unwrap(), None);
    }
    let successor = Upload { key: abandoned.key, ..sample_upload(b"payload") };
    assert_eq!(uploads.begin(&successor, now()).await.unwrap(), successor, "the key is free again");

    let id = successor.message_id;
    let (first, second) = (now().after(Duration::from_mins(1)), now().after(Duration::from_mins(2)));
    assert!(!uploads.lease(sample_upload(b"unknown").message_id, first, now()).await.unwrap());
    assert!(uploads.lease(id, first, now()).await.unwrap());
    assert!(!uploads.lease(id, second, now()).await.unwrap(), "another completion has the right");
    assert!(uploads.lease(id, second, first).await.unwrap(), "the right has ended");
    uploads.end_lease(id, first).await.expect("the right is another completion's");
    assert!(!uploads.lease(id, first, now()).await.unwrap());
    for _ in 0..2 {
        uploads.end_lease(id, second).await.expect("it may be repeated");
    }
    assert!(uploads.lease(id, first, now()).await.unwrap());
    assert_eq!(uploads.find(id).await.unwrap(), Some(successor), "a lease changes no upload");

    let key = sample_upload(b"payload").key;
    let contenders: Vec<_> = (0..6).map(|_| Upload { key, ..sample_upload(b"payload") }).collect();
    let begun =
        contenders.iter().map(|upload| async { uploads.begin(upload, now()).await.unwrap().message_id });
    let ids = futures_util::future::join_all(begun).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "one key, one upload: {ids:?}");
    assert!(contenders.iter().any(|upload| upload.message_id == ids[0]));
}

/// Checks the contract of [`StagingArea`]. `upload` follows a link with a payload, and returns whether the store took it.
/// `set_source` sets the content of an object that may be sent by reference, or deletes it. `current` is the current time by the clock
/// of the store.
pub async fn staging_area<A: StagingArea, F, G>(
    staging: &A,
    current: Timestamp,
    upload: impl Fn(UploadLink, Upload, Bytes) -> F,
    source: &str,
    set_source: impl Fn(Option<Bytes>) -> G,
) where
    F: Future<Output = bool>,
    G: Future<Output = ()>,
{
    let payload = Bytes::from_static(b"\0a picture\xff");
    let begun = sample_upload(&payload);
    let id = begun.message_id;
    assert_eq!(staging.find(id).await.unwrap(), None);
    let link = staging.upload_link(&begun, current).await.unwrap();
    assert!(upload(link, begun.clone(), payload.clone()).await);
    let staged = staging.find(id).await.unwrap().unwrap();
    assert_eq!((staged.sha256, staged.size_bytes), (Some(Sha256::of(&payload)), payload.len() as u64));

    let descriptor = begun.descriptor(Sha256::of(&payload));
    let object = staging.archive(id, &staged, &descriptor, now()).await.unwrap();
    assert_eq!(
        (object.sha256, object.size_bytes, object.archived_at),
        (Sha256::of(&payload), payload.len() as u64, now())
    );
    assert_eq!(object.reference.key, id.archive_key());
    let late = now().after(Duration::from_mins(2));
    assert_eq!(
        staging.archive(id, &staged, &descriptor, late).await.unwrap(),
        object,
        "the first time stays"
    );
    let other = begun.descriptor(Sha256::of(b"other"));
    let conflict = staging.archive(id, &staged, &other, now()).await.unwrap_err();
    assert!(matches!(conflict.name, ErrorName::ArchiveConflict | ErrorName::PayloadCorrupted), "{conflict}");

    for _ in 0..2 {
        staging.remove(id).await.expect("a removal may be repeated");
        assert_eq!(staging.find(id).await.unwrap(), None);
    }
    assert_eq!(
        staging.archive(id, &staged, &descriptor, late).await.unwrap(),
        object,
        "the archive has the payload"
    );
    let never = sample_upload(b"never");
    let missing = staging.archive(never.message_id, &staged, &descriptor, now()).await.unwrap_err();
    assert_eq!(missing.name, ErrorName::PayloadMissing);

    let uri = PayloadReference::to(source.parse().unwrap());
    set_source(None).await;
    assert_eq!(staging.inspect(&uri).await.unwrap(), None);
    set_source(Some(payload.clone())).await;
    let found = staging.inspect(&uri).await.unwrap().unwrap();
    assert_eq!((&found.uri.key, found.size_bytes), (&uri.uri.key, payload.len() as u64));
    let copied = staging.copy_in(&begun, &found).await.unwrap().unwrap();
    assert_eq!(copied.sha256, Some(Sha256::of(&payload)), "the store computes the digest");
    assert_eq!(staging.find(id).await.unwrap(), Some(copied));
    set_source(Some(Bytes::from_static(b"changed"))).await;
    assert_eq!(staging.copy_in(&begun, &found).await.unwrap(), None, "the object has changed");
    set_source(None).await;
    assert_eq!(staging.copy_in(&begun, &found).await.unwrap(), None, "the object is gone");
    staging.remove(id).await.unwrap();
}
