//! The cases: a function at one size, with what it is given and what it must answer.

use anyhow::bail;

use crate::{
    deployment::Deployment,
    function::{Function, Times},
    redis_link::RedisLink,
    runtime_api::Invocation,
    workload::{self, Event, Form},
};

/// A function at one size.
#[derive(Debug)]
pub struct Case {
    /// The name in reports.
    pub name: &'static str,
    /// The function.
    pub function: &'static str,
    /// The size, as people call it.
    pub size: &'static str,
    /// The size of what grows: the event of ingest, the payload of archive.
    pub size_bytes: usize,
    event: Event,
    /// The record that the function finds in the cache: its key and payload.
    cached: Option<(String, Vec<u8>)>,
    /// What an answer must contain.
    expected: &'static str,
    /// Whether there is a baseline to compare the function with.
    pub has_baseline: bool,
}

impl Case {
    /// Ingest of an event of this size, with a payload in base64.
    pub fn ingest(size_bytes: usize, size: &'static str) -> Self {
        Self::ingest_of(Form::Base64, size_bytes, size)
    }

    /// Ingest of an event of this size, with a payload in this form.
    pub fn ingest_of(form: Form, size_bytes: usize, size: &'static str) -> Self {
        Self {
            name: form.name(),
            function: "ingest",
            size,
            size_bytes,
            event: workload::ingest_event(size_bytes, form),
            cached: None,
            expected: "replicated",
            has_baseline: true,
        }
    }

    /// Archive of a payload of this size.
    pub fn archive(size_bytes: usize, size: &'static str) -> Self {
        let record = workload::cached_record(size_bytes);
        Self {
            name: "archive",
            function: "archive",
            size,
            size_bytes,
            event: record.event,
            cached: Some((record.key, record.payload)),
            expected: "S3Reference",
            has_baseline: true,
        }
    }

    /// Metadata of a record.
    pub fn metadata() -> Self {
        Self::without_payload("metadata", workload::cached_record(1).event, "metaDataReference")
    }

    /// Completion of a record.
    pub fn aggregate() -> Self {
        Self::without_payload("aggregate", workload::aggregate_event(), "completedAt")
    }

    /// A function that the size of a payload makes no difference to, because it sees none.
    fn without_payload(function: &'static str, event: Event, expected: &'static str) -> Self {
        let size_bytes = event.text.len();
        let (name, cached) = (function, None);
        Self { name, function, size: "any", size_bytes, event, cached, expected, has_baseline: false }
    }

    /// The size of the payload as it is kept.
    pub fn decoded_bytes(&self) -> usize {
        self.event.decoded_bytes
    }

    /// The same, with a baseline that moves as many bytes as the payload has when it is decoded.
    #[must_use]
    pub fn with_decoded_baseline(mut self) -> Self {
        self.event.payload_bytes = self.event.decoded_bytes;
        self
    }

    /// Has a program deal with the event, and clears the cache of what that has left there.
    pub fn invoke(
        &self,
        program: &mut Function,
        deployment: &Deployment,
        redis: &mut RedisLink,
    ) -> anyhow::Result<Times> {
        let answer = program.invoke(&Invocation {
            event: &self.event.text,
            payload_bytes: self.event.payload_bytes,
            acceptance_bytes: deployment.stub().acceptance_bytes(),
        })?;
        let text = String::from_utf8_lossy(&answer.body);
        if !text.contains(self.expected) {
            bail!("{self} answered {text}");
        }
        // Before the next event comes, and outside of every measured time.
        if self.cached.is_none() {
            redis.clear()?;
        }
        Ok(answer.times)
    }

    /// Puts into the cache what the function is to find there, and nothing else.
    pub fn prepare(&self, redis: &mut RedisLink) -> anyhow::Result<()> {
        redis.clear()?;
        if let Some((key, payload)) = &self.cached {
            redis.run(&[b"SET", key.as_bytes(), payload])?;
            redis.run(&[b"WAIT", b"1", b"1000"])?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.name, self.size)
    }
}
