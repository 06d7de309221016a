//! A measured program: a function's release `bootstrap`, the baseline, or a Python start.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    deployment::Deployment,
    goals, process,
    runtime_api::{Invocation, Response, RuntimeApi},
};

/// A program, and how to start it.
#[derive(Clone, Debug)]
pub struct Program {
    /// The name of the program in reports.
    pub name: String,
    /// The file to run.
    pub file: PathBuf,
    /// The arguments of the program.
    pub arguments: Vec<String>,
}

impl Program {
    /// Returns the release binary of a function.
    pub fn function(name: &str, folder: &Path) -> Self {
        Self { name: name.to_owned(), file: folder.join(name), arguments: Vec::new() }
    }

    /// Returns the release binary of a function in another build.
    pub fn before(name: &str, folder: &Path) -> Self {
        Self { name: format!("{name} before"), ..Self::function(name, folder) }
    }

    /// Returns the baseline of a function.
    pub fn baseline(of: &str, folder: &Path) -> Self {
        Self {
            name: format!("{of} baseline"),
            file: folder.join("custody-bench-baseline"),
            arguments: vec![of.to_owned()],
        }
    }

    /// Returns the program that starts as a function in Python does. The interpreter must have `boto3`.
    pub fn python_start(interpreter: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python_start.py");
        Self {
            name: goals::PYTHON.to_owned(),
            file: interpreter.to_owned(),
            arguments: vec![script.to_owned()],
        }
    }
}

/// The answer of a function to an event.
#[derive(Debug)]
pub struct Answer {
    /// The body of the response.
    pub body: Vec<u8>,
    /// The times of the invocation.
    pub times: Times,
}

/// The times of one invocation.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the last byte of the event to the last byte of the response: what the caller waits for.
    pub ack: Duration,
    /// From the first byte of the event until the program asks for the next event: the time that Lambda counts.
    pub whole: Duration,
}

/// A running program that asks for events.
#[derive(Debug)]
pub struct Function {
    process: Child,
    api: RuntimeApi,
    /// The time from the start of the program to its first request for an event.
    pub init: Duration,
}

impl Drop for Function {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Function {
    /// Starts a program and waits until it asks for its first event.
    pub fn start(program: &Program, deployment: &Deployment) -> anyhow::Result<Self> {
        Self::start_with(program, deployment, &[], Stdio::inherit())
    }

    /// Starts a program with additional environment variables and with `stderr` as its standard error, and waits until
    /// it asks for its first event.
    pub fn start_with(
        program: &Program,
        deployment: &Deployment,
        variables: &[(&str, String)],
        stderr: Stdio,
    ) -> anyhow::Result<Self> {
        let mut api = RuntimeApi::start()?;
        let mut command = Command::new(&program.file);
        command
            .args(&program.arguments)
            .env_clear()
            .envs(deployment.environment())
            .envs(process::sha_hiding_preload().map(|library| ("LD_PRELOAD", library)))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", api.address())
            // Lambda reads a function's logs from a pipe or a socket. `/dev/null`, which nobody reads, is the most
            // similar file that needs no reader.
            .stdout(File::options().write(true).open("/dev/null")?)
            .stdin(Stdio::null())
            .stderr(stderr);
        let started = Instant::now();
        let mut process =
            command.spawn().with_context(|| format!("start {}, {}", program.name, program.file.display()))?;
        let idle = api.wait_until_idle(&mut process).with_context(|| format!("start {}", program.name))?;
        Ok(Self { process, api, init: idle - started })
    }

    /// Sends an event to the function, and waits until it asks for the next one.
    pub fn invoke(&mut self, invocation: &Invocation<'_>) -> anyhow::Result<Answer> {
        let response = self.api.invoke(&mut self.process, invocation)?;
        let idle = self.api.wait_until_idle(&mut self.process)?;
        let times = Times { ack: response.posted - response.sent, whole: idle - response.begun };
        Ok(Answer { body: response.body, times })
    }

    /// Sends events to the function, as many at once as it asks for. Returns the responses in the order of the events.
    pub fn invoke_all(&mut self, invocations: &[Invocation<'_>]) -> anyhow::Result<Vec<Response>> {
        self.api.invoke_all(&mut self.process, invocations)
    }

    /// Returns the CPU time that the function has used so far.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        process::cpu_time(self.process.id())
    }

    /// Returns the peak resident memory of the function so far, in bytes.
    pub fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        process::peak_memory_bytes(self.process.id())
    }

    /// Ends the function without killing it, so that it can write its final output, such as a preloaded library's
    /// report.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.api.close_waiting_connections();
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the function does not end when the Runtime API does");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
