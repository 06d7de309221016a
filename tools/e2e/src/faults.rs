//! Faults of the stack under test: each lasts until its value is dropped.

use std::process::{Command, Stdio};

use crate::{run_support_script, stack_output, variable};

/// Breaks a part of the stack, or repairs it; see `cargo xtask break --help`.
pub fn apply_fault(fault: &str) {
    let mut command = Command::new(variable("CUSTODY_XTASK"));
    command.args(["--stack", &variable("CUSTODY_LOCAL_STACK"), "break", fault]);
    let status = command.stdout(Stdio::null()).status().expect("the task runner starts");
    assert!(status.success(), "`break {fault}` ended with {status}");
}

/// Breaks a part of the stack, or repairs it, while the other futures of the test continue.
pub async fn apply_fault_concurrently(fault: &'static str) {
    tokio::task::spawn_blocking(move || apply_fault(fault)).await.expect("the fault is made");
}

/// A service that is unavailable until this value is dropped.
#[derive(Debug)]
pub struct UnavailableService(());

impl UnavailableService {
    /// Makes a service unavailable. `fault` is the name of the fault.
    pub fn new(fault: &str) -> Self {
        apply_fault(fault);
        Self(())
    }
}

impl Drop for UnavailableService {
    fn drop(&mut self) {
        apply_fault("services-back");
    }
}

/// Returns a client for each node of the cache, with the administrator's login.
pub fn cache_nodes() -> Vec<redis::Client> {
    let ca_file = std::fs::read(format!("{}/tls/ca.pem", variable("CUSTODY_STACK_FOLDER")));
    let root_cert = ca_file.expect("the stack has an authority");
    let password = variable("CUSTODY_CACHE_ADMIN_PASSWORD");
    let client = |port: &str| {
        let url = format!("rediss://admin:{password}@127.0.0.1:{port}");
        let root_cert = Some(root_cert.clone());
        redis::Client::build_with_tls(url, redis::TlsCertificates { client_tls: None, root_cert })
            .expect("the address of a node")
    };
    variable("CUSTODY_CACHE_PORTS").split(',').map(client).collect()
}

/// An action that a function is denied until this value is dropped.
#[derive(Debug)]
pub struct Denied(String);

impl Denied {
    /// Denies `action` to the function with this physical name.
    pub fn to(function: &str, action: &str) -> Self {
        run_support_script("deny.py", &[function, action], "").expect("the denial is made");
        Self(function.to_owned())
    }
}

impl Drop for Denied {
    fn drop(&mut self) {
        run_support_script("deny.py", &[&self.0, "--lift"], "").expect("the denial is lifted");
    }
}

/// A cache that is full until this value is dropped: no node accepts more data than it has.
#[derive(Debug)]
pub struct FullCache(());

impl FullCache {
    /// Limits the memory of every node to less than it uses.
    #[expect(clippy::new_without_default, reason = "a fault is made on purpose, and never by default")]
    pub fn new() -> Self {
        Self::limit_memory("1");
        Self(())
    }

    fn limit_memory(limit: &str) {
        for node in cache_nodes() {
            let mut connection = node.get_connection().expect("the node answers");
            let set = redis::cmd("CONFIG").arg(&["SET", "maxmemory", limit]).exec(&mut connection);
            set.expect("the limit is set");
        }
    }
}

impl Drop for FullCache {
    fn drop(&mut self) {
        Self::limit_memory("2gb");
    }
}

/// A new version of a function that cannot start, because a setting is missing. It takes all calls until this value is dropped, as a
/// deployment has it until `CodeDeploy` or Step Functions rolls it back.
#[derive(Debug)]
pub struct NewVersion {
    repair: Vec<String>,
}

impl NewVersion {
    /// Makes a version of the function with this physical name, and lets it take all calls.
    pub fn without(function: &str, setting: &str) -> Self {
        let before = run_support_script("function_fault.py", &["without", function, setting], "");
        let before = before.expect("the version is made").trim().to_owned();
        Self { repair: ["back".to_owned(), function.to_owned(), before].into() }
    }

    /// The same for a function that the workflow calls by its version.
    pub fn in_workflow_without(function: &str, setting: &str) -> Self {
        let machine = stack_output("StateMachineArn");
        let break_it = ["workflow-without", function, setting, &machine];
        let before = run_support_script("function_fault.py", &break_it, "").expect("the version is made");
        let before = before.trim().to_owned();
        Self { repair: ["workflow-back".to_owned(), function.to_owned(), before, machine].into() }
    }
}

impl Drop for NewVersion {
    fn drop(&mut self) {
        let repair: Vec<&str> = self.repair.iter().map(String::as_str).collect();
        run_support_script("function_fault.py", &repair, "").expect("the version before takes the calls");
    }
}

/// A function that Lambda does not run until this value is dropped, as if a quota were used up.
#[derive(Debug)]
pub struct Throttled(String);

impl Throttled {
    /// Throttles the function with this physical name.
    pub fn function(name: &str) -> Self {
        run_support_script("function_fault.py", &["throttle", name], "").expect("the function is throttled");
        Self(name.to_owned())
    }
}

impl Drop for Throttled {
    fn drop(&mut self) {
        run_support_script("function_fault.py", &["release", &self.0], "").expect("the function runs again");
    }
}

/// A fault of the cache that is mended when this value is dropped.
#[derive(Debug)]
pub struct CacheFault {
    repair: &'static str,
}

impl CacheFault {
    /// Kills the replica of the first shard.
    pub fn killed_replica() -> Self {
        apply_fault("kill-replica");
        Self { repair: "start-replica" }
    }

    /// Suspends every primary, so that the cache accepts connections and answers nothing.
    pub fn hanging() -> Self {
        apply_fault("hang-cache");
        Self { repair: "resume-cache" }
    }
}

impl Drop for CacheFault {
    fn drop(&mut self) {
        apply_fault(self.repair);
    }
}
