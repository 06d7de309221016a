//! Checks that template, state machine and code agree: a name that one of them uses exists in the others.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod alarms;
mod configuration;
mod openapi;
mod resources;
mod state_machine;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use custody_aws::DUE_INDEX;
use custody_core::{
    error::{ErrorKind, ErrorName, FUNCTION_NOT_READY, TRANSIENT_PLATFORM_ERRORS},
    stages::{aggregate, archive, failure, metadata},
    stored_names,
};
use custody_lambda::{
    config::{
        self, AggregateConfig, ArchiveConfig, AuthorizerConfig, FailureConfig, IngestConfig, MetadataConfig,
        QueryConfig, Reader, ReconcileConfig, RedriveConfig, UploadConfig,
    },
    metrics, telemetry,
};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

type Names = BTreeSet<String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Returns the template. Its intrinsic functions lose their tags, which makes no difference, because only names are
/// compared here.
fn template() -> Yaml {
    let text = fs::read_to_string(root().join("template.yaml")).unwrap();
    YamlLoader::load_from_str(&text).unwrap().remove(0)
}

fn state_machine_text() -> String {
    fs::read_to_string(root().join("statemachine/audit_record.asl.json")).unwrap()
}

fn state_machine() -> Value {
    serde_json::from_str(&state_machine_text()).unwrap()
}

fn keys(yaml: &Yaml) -> Names {
    let Yaml::Hash(hash) = yaml else { return Names::new() };
    hash.keys().filter_map(Yaml::as_str).map(str::to_owned).collect()
}

/// Returns the functions of the template, by the folder of their code.
fn functions(template: &Yaml) -> BTreeMap<String, Yaml> {
    let Yaml::Hash(resources) = &template["Resources"] else { panic!("the template has resources") };
    let functions =
        resources.values().filter(|resource| resource["Type"].as_str() == Some("AWS::Serverless::Function"));
    functions
        .map(|function| {
            let code = function["Properties"]["CodeUri"].as_str().unwrap().trim_end_matches('/');
            (code.strip_prefix("functions/").unwrap().to_owned(), function.clone())
        })
        .collect()
}

fn folders_of_functions() -> Names {
    let entries = root().join("functions").read_dir().unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|e| e.file_name().into_string().unwrap())
        .collect()
}
