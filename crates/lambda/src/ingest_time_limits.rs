//! The time limits of the ports during one ingest request.
//!
//! Their sum stays below the function's timeout of 28 s even on the longest path: the access table hangs, the cache hangs, the archive hangs, the
//! table hangs, and then the marker is written.

use std::time::Duration;

/// The time limit of reading the caller's access entry. It is often the first call of a new process, which opens the
/// connection.
pub const ACCESS: Duration = Duration::from_secs(4);
/// The time limit of one try of reading the caller's access entry.
pub const ACCESS_TRY: Duration = Duration::from_millis(1800);
/// The time limit of storing a whole payload in the cache.
pub const CACHE: Duration = Duration::from_secs(5);
/// The time limit of storing a whole payload in the archive.
pub const ARCHIVE: Duration = Duration::from_secs(8);
/// The time limit of an acceptance, or of the lookup of a claim.
pub const TABLE: Duration = Duration::from_secs(3);
/// The time limit of one try of a call to the tables. After two tries, enough of [`TABLE`] is left to read the
/// claim of the idempotency key.
pub const TABLE_TRY: Duration = Duration::from_millis(700);
/// The time limit of storing the marker of an acceptance that could not be written to the table.
pub const MARKER: Duration = Duration::from_secs(4);
/// The time limit of one try of writing the marker.
pub const MARKER_TRY: Duration = Duration::from_millis(1800);
/// The time limit of each call of the staging area, the copies among them. A copy that takes longer is made by the upload function,
/// when the producer completes the upload.
pub const STAGING: Duration = Duration::from_millis(2500);
/// The time limit of each call after the response: the start of the workflow, and the storing of a rejected
/// request.
pub const FOLLOW_UP: Duration = Duration::from_secs(3);

const TIMEOUT_SECONDS: u64 = 28;
const LONGEST_WAY_SECONDS: u64 = ACCESS.as_secs()
    + CACHE.as_secs()
    + ARCHIVE.as_secs()
    + TABLE.as_secs()
    + MARKER.as_secs()
    + FOLLOW_UP.as_secs();
const _: () = assert!(LONGEST_WAY_SECONDS < TIMEOUT_SECONDS);
/// The longest path of a payload by reference: the object is inspected, the upload begins, the claim is read, the staged payload is
/// looked up, copied and archived, and the record is accepted.
const REFERENCE_WAY_MS: u128 =
    ACCESS.as_millis() + 4 * STAGING.as_millis() + 3 * TABLE.as_millis() + FOLLOW_UP.as_millis();
const _: () = assert!(REFERENCE_WAY_MS < TIMEOUT_SECONDS as u128 * 1000);
const _: () = assert!(ACCESS_TRY.as_millis() * 2 < ACCESS.as_millis());
const _: () = assert!(TABLE_TRY.as_millis() * 4 < TABLE.as_millis());
const _: () = assert!(MARKER_TRY.as_millis() * 2 < MARKER.as_millis());
