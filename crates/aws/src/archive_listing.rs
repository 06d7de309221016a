//! The list of the archive's objects, page by page, in the order of their keys. This is also the order of time.

use aws_sdk_s3::Client;
use custody_core::error::{ErrorName, StageError};

use crate::classify::stage_error;

/// The list of the objects in an archive bucket.
#[derive(Clone, Debug)]
pub struct ArchiveListing {
    client: Client,
    bucket: String,
}

/// An object in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// The key of the object.
    pub key: String,
    /// The size of the object.
    pub size_bytes: u64,
}

/// One page of the list: up to 1,000 objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedPage {
    /// The objects, in the order of their keys.
    pub objects: Vec<ListedObject>,
    /// Whether more objects follow this page.
    pub truncated: bool,
}

impl ArchiveListing {
    /// Creates the list of the objects in `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// Reads the page of objects whose keys sort after `after`, or the first page.
    pub async fn page(&self, after: Option<&str>) -> Result<ListedPage, StageError> {
        let list =
            self.client.list_objects_v2().bucket(&self.bucket).set_start_after(after.map(str::to_owned));
        let page = list.send().await.map_err(|error| {
            let operation = format!("list the archive after `{}`", after.unwrap_or_default());
            stage_error(&error, ErrorName::ArchiveUnavailable, operation)
        })?;
        let truncated = page.is_truncated() == Some(true);
        let objects = page.contents.unwrap_or_default().into_iter().filter_map(|object| {
            let size_bytes = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
            Some(ListedObject { key: object.key?, size_bytes })
        });
        Ok(ListedPage { objects: objects.collect(), truncated })
    }
}
