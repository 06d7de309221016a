//! The deployment to which the client sends records.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, bail};
use custody_aws::Aws;
use serde::Deserialize;

/// A deployment: its endpoints and stores, which are outputs of its stack, and the AWS clients.
#[derive(Clone, Debug)]
pub struct Deployment {
    outputs: BTreeMap<String, String>,
    /// The API key's value.
    pub api_key: String,
    /// Clients with the ordinary AWS configuration.
    pub aws: Aws,
}

/// Outputs as a plain object, or as `aws cloudformation describe-stacks --query 'Stacks[0].Outputs'` prints them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Outputs {
    Object(BTreeMap<String, String>),
    List(Vec<Output>),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    output_key: String,
    output_value: String,
}

impl Deployment {
    /// Reads a deployment from `outputs`, a JSON file with the outputs of its stack.
    pub async fn load(outputs: &Path, api_key: String) -> anyhow::Result<Self> {
        // A process can install one TLS provider. An error means that an earlier call has installed the same provider.
        drop(rustls::crypto::ring::default_provider().install_default());
        let text = std::fs::read_to_string(outputs)
            .with_context(|| format!("read the stack's outputs from {}", outputs.display()))?;
        let outputs = match serde_json::from_str(&text).context("read the stack's outputs as JSON")? {
            Outputs::Object(outputs) => outputs,
            Outputs::List(list) => list.into_iter().map(|o| (o.output_key, o.output_value)).collect(),
        };
        Ok(Self { outputs, api_key, aws: Aws::load().await })
    }

    /// Returns one output of the stack.
    pub fn output(&self, name: &str) -> anyhow::Result<&str> {
        match self.outputs.get(name) {
            Some(value) => Ok(value),
            None => bail!("the stack has no output {name}; deploy the current template.yaml"),
        }
    }
}
