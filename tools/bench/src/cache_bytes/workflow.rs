//! Runs the steps of the state machine that matter to the cache: archive, metadata, aggregate.

use std::{path::Path, sync::mpsc::Receiver, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{Retention, sleep_until};
use crate::{
    aws_stub::Execution,
    deployment::Deployment,
    function::{Function, Program},
    redis_link::{RedisLink, Reply},
    runtime_api::Invocation,
};

/// The maximum time to wait for the next execution.
const PATIENCE: Duration = Duration::from_secs(30);

/// The functions of the workflow. The workflow processes one record after the other.
pub(super) struct Workflow {
    archive: Function,
    metadata: Function,
    aggregate: Function,
    redis: RedisLink,
    executions: Receiver<Execution>,
    delay: Duration,
    retention: Retention,
}

impl Workflow {
    /// Starts the functions. The archive step of each execution begins `delay` after the start of the execution.
    pub(super) fn start(
        deployment: &Deployment,
        folder: &Path,
        executions: Receiver<Execution>,
        delay: Duration,
        retention: Retention,
    ) -> anyhow::Result<Self> {
        let start = |name| Function::start(&Program::function(name, folder), deployment);
        let (archive, metadata, aggregate) = (start("archive")?, start("metadata")?, start("aggregate")?);
        let redis = deployment.redis()?;
        Ok(Self { archive, metadata, aggregate, redis, executions, delay, retention })
    }

    /// Runs `count` executions to their end.
    pub(super) fn run(&mut self, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            let Execution { started, input } =
                self.executions.recv_timeout(PATIENCE).context("wait for an execution")?;
            sleep_until(started + self.delay);
            self.complete(&input)?;
        }
        Ok(())
    }

    fn complete(&mut self, input: &str) -> anyhow::Result<()> {
        let message: Value = serde_json::from_str(input).context("read an execution's input")?;
        let archive = invoke(&mut self.archive, input)?;
        let metadata = invoke(&mut self.metadata, input)?;
        match self.retention {
            Retention::Unlinked => {
                let input = json!({"message": message, "archive": archive, "metadata": metadata});
                let completed = invoke(&mut self.aggregate, &input.to_string())?;
                ensure!(completed.get("completedAt").is_some(), "aggregate answered {completed}");
            }
            Retention::Grace(grace) => {
                let id = message["messageID"].as_str().context("a message has an id")?;
                let (key, grace) = (format!("rec:{id}"), grace.as_millis().to_string());
                let expires = self.redis.run(&[b"PEXPIRE", key.as_bytes(), grace.as_bytes()])?;
                ensure!(expires == Reply::Integer(1), "the cache has no {key}");
            }
        }
        Ok(())
    }
}

fn invoke(function: &mut Function, event: &str) -> anyhow::Result<Value> {
    let invocation = Invocation { event: event.as_bytes(), payload_bytes: 0, acceptance_bytes: 0 };
    serde_json::from_slice(&function.invoke(&invocation)?.body).context("read a stage's answer")
}
