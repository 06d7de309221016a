//! The log lines of a piece of work, as a function writes them.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use tracing::instrument::WithSubscriber as _;

#[derive(Default)]
struct Written(Mutex<Vec<u8>>);

impl io::Write for &Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the result of a future, and the log lines that it writes at `INFO` and above.
pub(crate) async fn with_log<T>(work: impl Future<Output = T>) -> (T, Vec<Value>) {
    let written = Arc::<Written>::default();
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(Arc::clone(&written));
    let result = work.with_subscriber(log.finish()).await;
    let written = written.0.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    (result, lines.map(|line| serde_json::from_slice(line).expect("a line is JSON")).collect())
}
