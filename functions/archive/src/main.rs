//! The archive function: copies a payload from the cache or the failed bucket into the archive.
// The nested futures of SDK calls exceed the compiler's default recursion limit.
#![recursion_limit = "256"]

use custody_aws::{Aws, S3Archive, S3FailedStore};
use custody_core::{clock::SystemClock, message::InternalMessage, stages::archive::Archive};
use custody_lambda::{
    config::ArchiveConfig,
    deployment::{OnAws, with_background_call_limit},
    runtime,
};

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start("archive", ArchiveConfig::read)?;
    let aws = Aws::load().await;
    let stage = Archive::<OnAws> {
        cache: with_background_call_limit(config.cache.client(aws.secrets_manager())),
        failed_store: with_background_call_limit(S3FailedStore::new(aws.s3(), config.failed_bucket)),
        archive: with_background_call_limit(S3Archive::new(aws.s3(), config.archive_bucket)),
        clock: SystemClock,
    };
    runtime::serve(stage, async |stage, message: InternalMessage| Box::pin(stage.run(&message)).await).await
}
