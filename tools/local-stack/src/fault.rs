//! The faults that a local stack can be given, as tests and curious people do.

use std::fs;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::{Stack, cache::Cache, ministack, process, tools};

/// What can be broken, and mended again.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Fault {
    /// Kill every function process in the middle of its work.
    KillFunctions,
    /// Let every primary of the cache hang.
    HangCache,
    /// Let them go on.
    ResumeCache,
    /// Kill every node of the cache.
    KillCache,
    /// Start the nodes that were killed again, with what they had.
    StartCache,
    /// Kill every node of the cache and start it again, empty.
    LoseCache,
    /// Kill the primary of the first shard, let its replica take over, and start the old one as a replica.
    FailOverShard,
    /// Kill the replica of the first shard.
    KillReplica,
    /// Start it again.
    StartReplica,
    /// Add a shard to the cache, and move a quarter of all payloads to it while records come in.
    AddShard,
    /// Stop MiniStack and start it again with what it had; workflows under way end as failed.
    RestartMinistack,
    /// Let S3 answer 503 to everybody.
    S3Away,
    /// Let `DynamoDB` answer 503 to everybody.
    DynamodbAway,
    /// Let SNS answer 503 to everybody.
    SnsAway,
    /// Let Step Functions answer 503 to everybody.
    StatesAway,
    /// Let Step Functions take half a minute to answer 503.
    StatesHang,
    /// Let every service answer again.
    ServicesBack,
}

impl Stack {
    /// Breaks a part of the stack, or mends it.
    pub fn break_part(&self, fault: Fault) -> anyhow::Result<()> {
        let Some(running) = self.known() else { bail!("stack `{}` is not running", self.name) };
        let redis_server = tools::redis_server()?;
        let cache = Cache::of(&running, &redis_server);
        match fault {
            Fault::S3Away => self.set_away("s3"),
            Fault::DynamodbAway => self.set_away("dynamodb"),
            Fault::SnsAway => self.set_away("sns"),
            Fault::StatesAway => self.set_away("states"),
            Fault::StatesHang => self.set_away("hanging-states"),
            Fault::ServicesBack => self.set_away(""),
            Fault::KillFunctions => {
                println!("{} functions killed", process::kill_functions(&self.folder)?);
                Ok(())
            }
            Fault::HangCache => cache.hang(),
            Fault::ResumeCache => cache.resume(),
            Fault::KillCache => cache.kill(),
            Fault::StartCache | Fault::StartReplica => cache.start_again(),
            Fault::LoseCache => cache.lose(),
            Fault::FailOverShard => cache.fail_over(),
            Fault::KillReplica => cache.kill_replica(),
            Fault::AddShard => cache.add_shard(),
            Fault::RestartMinistack => {
                process::end_emulator(&self.folder)?;
                ministack::start(&running, &tools::Python::ready()?)
            }
        }
    }

    /// Lets one service of the emulated AWS be away, or none.
    fn set_away(&self, service: &str) -> anyhow::Result<()> {
        let file = self.folder.join("away");
        fs::write(&file, service).with_context(|| format!("write {}", file.display()))
    }
}
