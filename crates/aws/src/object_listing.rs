//! The list of a bucket's objects, page by page, in the order of their keys. The keys of payloads, manifests and evidence are
//! also in the order of time.

use aws_sdk_s3::Client;
use custody_core::error::{ErrorName, StageError};

use crate::classify::stage_error;

/// The list of the objects in a bucket whose keys begin with a prefix.
#[derive(Clone, Debug)]
pub struct ObjectListing {
    client: Client,
    bucket: String,
    prefix: &'static str,
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

impl ObjectListing {
    /// Creates the list of all objects in `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket, prefix: "" }
    }

    /// Limits the list to keys that begin with `prefix`.
    #[must_use]
    pub fn below(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    /// Reads the page of objects whose keys sort after `after`, or the first page.
    pub async fn page(&self, after: Option<&str>) -> Result<ListedPage, StageError> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(self.prefix);
        let list = list.set_start_after(after.map(str::to_owned));
        let page = list.send().await.map_err(|error| {
            let operation = format!("list bucket {} after `{}`", self.bucket, after.unwrap_or(self.prefix));
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
