//! The cases of the benchmark: a function at one size, with its event and the answer that it must give.

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
    /// The name of the case in reports.
    pub name: &'static str,
    /// The name of the function.
    pub function: &'static str,
    /// The size as text for reports, such as `6 MB`.
    pub size: &'static str,
    /// The size in bytes: of the payload for archive, of the event for every other function.
    pub size_bytes: usize,
    event: Event,
    /// The record that the function finds in the cache: the key and the payload.
    cached: Option<(String, Vec<u8>)>,
    /// A text that the answer must contain.
    expected: &'static str,
    /// Whether there is a baseline to compare the function with.
    pub has_baseline: bool,
}

impl Case {
    /// Returns the case of ingest with an event of this size and a payload in base64.
    pub fn ingest(size_bytes: usize, size: &'static str) -> Self {
        Self::ingest_of(Form::Base64, size_bytes, size)
    }

    /// Returns the case of ingest with an event of this size and a payload in this form.
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

    /// Returns the case of archive with a payload of this size.
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

    /// Returns the case of metadata.
    pub fn metadata() -> Self {
        Self::without_payload("metadata", workload::cached_record(1).event, "metaDataReference")
    }

    /// Returns the case of query: the look-up of one record.
    pub fn query() -> Self {
        Self::without_payload("query", workload::query_event(), "COMPLETED")
    }

    /// Returns the case of query: the newest 100 records of a source system, from all partitions of the index.
    pub fn list() -> Self {
        let case = Self::without_payload("query", workload::list_event(), "nextCursor");
        Self { name: "list", ..case }
    }

    /// Returns the case of aggregate.
    pub fn aggregate() -> Self {
        Self::without_payload("aggregate", workload::aggregate_event(), "completedAt")
    }

    /// Returns the case of a function that never sees the payload, so that the payload's size makes no difference.
    fn without_payload(function: &'static str, event: Event, expected: &'static str) -> Self {
        let size_bytes = event.text.len();
        let (name, cached) = (function, None);
        Self { name, function, size: "any", size_bytes, event, cached, expected, has_baseline: false }
    }

    /// Returns the size of the decoded payload, in bytes.
    pub fn decoded_bytes(&self) -> usize {
        self.event.decoded_bytes
    }

    /// Returns the same case with a baseline that moves as many bytes as the decoded payload has.
    #[must_use]
    pub fn with_decoded_baseline(mut self) -> Self {
        self.event.payload_bytes = self.event.decoded_bytes;
        self
    }

    /// Sends the event to a program, checks the answer, and then removes what the program has left in the cache.
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
        // Clears the cache before the next event is sent, and outside of every measured time.
        if self.cached.is_none() {
            redis.clear()?;
        }
        Ok(answer.times)
    }

    /// Clears the cache, and stores the payload that the function is to find there.
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
