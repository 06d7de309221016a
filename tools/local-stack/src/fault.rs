//! The faults that a local stack can be given, as tests and curious people do.

use std::fs;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::{Running, Stack, cache::Cache, ministack, process, progress, tools, workspace};

/// A fault of a part of the stack, or the repair of a fault.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Fault {
    /// Kill every function process in the middle of its work.
    KillFunctions,
    /// Suspend every primary of the cache, so that it hangs.
    HangCache,
    /// Resume the suspended nodes of the cache.
    ResumeCache,
    /// Kill every node of the cache.
    KillCache,
    /// Start the killed nodes of the cache again, with their data.
    StartCache,
    /// Kill every node of the cache and start it again without data.
    LoseCache,
    /// Kill the primary of the first shard, let its replica take over, and start the old one as a replica.
    FailOverShard,
    /// Kill the replica of the first shard.
    KillReplica,
    /// Start the killed replica of the first shard again.
    StartReplica,
    /// Add a shard to the cache, and move a quarter of all payloads to it while records come in.
    AddShard,
    /// Stop MiniStack and start it again with its data; running workflows end as failed.
    RestartMinistack,
    /// Make S3 answer 503 to every request.
    S3Away,
    /// Make `DynamoDB` answer 503 to every request.
    DynamodbAway,
    /// Make SNS answer 503 to every request.
    SnsAway,
    /// Make Step Functions answer 503 to every request.
    StatesAway,
    /// Make Step Functions answer 503 to every request, after half a minute.
    StatesHang,
    /// Make every service answer normally again.
    ServicesBack,
    /// Deny the function archive its writes, so that records fail and wait for a redrive.
    DenyArchive,
    /// Allow the function archive its writes again.
    AllowArchive,
}

impl Fault {
    /// Returns the fault that repairs this one; `None` if there is nothing to repair.
    pub fn repair(self) -> Option<Self> {
        Some(match self {
            Self::HangCache => Self::ResumeCache,
            Self::KillCache => Self::StartCache,
            Self::KillReplica => Self::StartReplica,
            Self::S3Away | Self::DynamodbAway | Self::SnsAway | Self::StatesAway | Self::StatesHang => {
                Self::ServicesBack
            }
            Self::DenyArchive => Self::AllowArchive,
            Self::KillFunctions
            | Self::ResumeCache
            | Self::StartCache
            | Self::LoseCache
            | Self::FailOverShard
            | Self::StartReplica
            | Self::AddShard
            | Self::RestartMinistack
            | Self::ServicesBack
            | Self::AllowArchive => return None,
        })
    }
}

impl Stack {
    /// Breaks a part of the stack, or repairs it.
    pub fn apply_fault(&self, fault: Fault) -> anyhow::Result<()> {
        let Some(running) = self.saved_data() else { bail!("stack `{}` is not running", self.name) };
        let redis_server = tools::redis_server()?;
        let cache = Cache::of(&running, &redis_server);
        match fault {
            Fault::S3Away => self.set_away("s3"),
            Fault::DynamodbAway => self.set_away("dynamodb"),
            Fault::SnsAway => self.set_away("sns"),
            Fault::StatesAway => self.set_away("states"),
            Fault::StatesHang => self.set_away("hanging-states"),
            Fault::ServicesBack => self.set_away(""),
            Fault::DenyArchive => deny_archive(&running, "s3:PutObject"),
            Fault::AllowArchive => deny_archive(&running, "--lift"),
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

    /// Makes one service of the emulated AWS unavailable. With an empty name, all services are available again.
    fn set_away(&self, service: &str) -> anyhow::Result<()> {
        let file = self.folder.join("away");
        fs::write(&file, service).with_context(|| format!("write {}", file.display()))
    }
}

/// Denies the function archive an action, or lifts the denial.
fn deny_archive(running: &Running, action: &str) -> anyhow::Result<()> {
    let function = running.output("ArchiveFunctionName")?;
    let mut deny = tools::Python::ready()?.command("python");
    deny.arg(workspace::python_files().join("deny.py")).args([function, action]);
    progress::run_visibly(running.point_at_stack(&mut deny))
}
