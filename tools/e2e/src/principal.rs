//! Producers and auditors of a test.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::{PATIENCE, created_api_key, environment::option_env, run_custody, stack_output, variable};

/// A producer or an auditor that exists until this value is dropped.
#[derive(Debug)]
pub struct Principal {
    /// The name of the principal, which no other has.
    pub name: String,
    /// The value of the API key.
    pub api_key: String,
}

impl Principal {
    /// Adds a principal. `rights` are options of `custody producer add`.
    pub fn add(rights: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("e2e-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let api_key = created_api_key(&[&["--json", "producer", "add", &name], rights].concat());
        wait_until_known(&api_key);
        Self { name, api_key }
    }
}

/// Waits until API Gateway knows a new key. The local stack knows each key at once; AWS takes some time.
fn wait_until_known(api_key: &str) {
    let is_told_to_wait = option_env("CUSTODY_NEW_KEYS_WAIT").is_some_and(|told| told == "true");
    let deadline = Instant::now() + PATIENCE;
    while is_told_to_wait && Instant::now() < deadline {
        let mut list = Command::new(variable("CUSTODY_CLI"));
        list.args(["list", "--source", "nobody", "--url", &stack_output("IngestUrl"), "--api-key", api_key]);
        let output = list.output().expect("the tool starts");
        if !String::from_utf8_lossy(&output.stderr).contains("API key") {
            return;
        }
        std::thread::sleep(Duration::from_secs(5));
    }
}

impl Drop for Principal {
    fn drop(&mut self) {
        run_custody(&["producer", "revoke", &self.name]);
    }
}
