//! The archive function: moves a payload from where it is into the archive.
// The nested futures of SDK calls are deeper than the compiler's default lets it lay out.
#![recursion_limit = "256"]

use custody_common::{
    aws::{Aws, S3Archive, S3FailedStore},
    cache::ClusterCache,
    clock::SystemClock,
    config::ArchiveConfig,
    deployment::{OnAws, patient},
    lambda,
};
use custody_core::{message::InternalMessage, stages::archive::Archive};

fn main() -> Result<(), lambda::Error> {
    lambda::run(function())
}

async fn function() -> Result<(), lambda::Error> {
    let config = custody_common::start(ArchiveConfig::read)?;
    let aws = Aws::load().await;
    let stage = Archive::<OnAws> {
        cache: patient(ClusterCache::from_config(config.cache, aws.secrets_manager())),
        failed_store: patient(S3FailedStore::new(aws.s3(), config.failed_bucket)),
        archive: patient(S3Archive::new(aws.s3(), config.archive_bucket)),
        clock: SystemClock,
    };
    lambda::serve(stage, async |stage, message: InternalMessage| Box::pin(stage.run(&message)).await).await
}
