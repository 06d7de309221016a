//! Functions, their folders and their environment keys agree.

use super::*;

#[test]
fn every_function_folder_is_a_resource_and_every_function_has_a_folder() {
    let template = template();
    let functions = functions(&template);
    assert_eq!(functions.keys().cloned().collect::<Names>(), folders_of_functions());
    for (name, function) in functions {
        assert_eq!(function["Metadata"]["BuildProperties"]["Binary"].as_str(), Some(name.as_str()));
    }
}

/// Returns the keys that a function's configuration type reads.
fn keys_read(read: impl FnOnce(&mut Reader<'_>)) -> Names {
    let (_, keys) = config::from_lookup(&|_| Some("1".to_owned()), |reader| {
        telemetry::Settings::read(reader);
        read(reader);
    });
    keys.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_key_that_a_function_reads_is_set_for_it_and_nothing_more() {
    let template = template();
    let shared = keys(&template["Globals"]["Function"]["Environment"]["Variables"]);
    let read = BTreeMap::from([
        ("ingest", keys_read(|reader| drop(IngestConfig::read(reader)))),
        ("archive", keys_read(|reader| drop(ArchiveConfig::read(reader)))),
        ("metadata", keys_read(|reader| drop(MetadataConfig::read(reader)))),
        ("aggregate", keys_read(|reader| drop(AggregateConfig::read(reader)))),
        ("failure", keys_read(|reader| drop(FailureConfig::read(reader)))),
        ("reconcile", keys_read(|reader| drop(ReconcileConfig::read(reader)))),
        ("query", keys_read(|reader| drop(QueryConfig::read(reader)))),
        ("authorizer", keys_read(|reader| drop(AuthorizerConfig::read(reader)))),
        ("upload", keys_read(|reader| drop(UploadConfig::read(reader)))),
        ("redrive", keys_read(|reader| drop(RedriveConfig::read(reader)))),
    ]);
    let functions = functions(&template);
    assert_eq!(functions.keys().map(String::as_str).collect::<Vec<_>>(), {
        let mut names: Vec<_> = read.keys().copied().collect();
        names.sort_unstable();
        names
    });
    for (name, function) in functions {
        let mut set: Names = &keys(&function["Properties"]["Environment"]["Variables"]) | &shared;
        // The C library reads this key, the function does not.
        set.remove(ALLOCATOR);
        assert_eq!(set, read[name.as_str()], "{name}");
    }
}

/// A change of a parameter alone publishes a new version only if the version's description changes.
#[test]
fn the_description_of_a_version_has_every_part_of_the_configuration_that_can_change_alone() {
    // They may be longer than a description. README, "Update", asks for another `Release` with each deployment.
    const TOO_LONG: [&str; 2] = ["CacheCaBundle", "ReferenceSources"];
    let template = template();
    let parameters = keys(&template["Parameters"]);
    let can_change = |value: &str| -> Names {
        let parts = value.split(['$', '{', '}', ':']).filter(|part| {
            parameters.contains(*part) && !TOO_LONG.contains(part)
                || part.starts_with("CacheReplicationGroup.")
        });
        parts.map(str::to_owned).collect()
    };
    for (name, function) in functions(&template) {
        let properties = &function["Properties"];
        let own = &properties["Environment"]["Variables"];
        let shared = &template["Globals"]["Function"]["Environment"]["Variables"];
        let values = [own, shared].into_iter().flat_map(|variables| variables.as_hash().unwrap().values());
        let expected: Names = values.filter_map(Yaml::as_str).flat_map(can_change).collect();
        let described = properties["VersionDescription"].as_str().expect("each function has versions");
        assert_eq!(can_change(described), expected, "{name}");
    }
}

#[test]
fn a_function_is_in_the_vpc_if_and_only_if_it_uses_the_cache() {
    for (name, function) in functions(&template()) {
        let properties = &function["Properties"];
        let uses_cache = !properties["Environment"]["Variables"]["CACHE_HOST"].is_badvalue();
        assert_eq!(!properties["VpcConfig"].is_badvalue(), uses_cache, "{name}");
    }
}

/// The environment variable that configures glibc's memory allocator.
const ALLOCATOR: &str = "GLIBC_TUNABLES";

#[test]
fn ingest_keeps_the_memory_of_an_event_as_it_does_in_the_benchmark() {
    let template = template();
    let ingest = &functions(&template)["ingest"]["Properties"]["Environment"]["Variables"];
    assert_eq!(ingest[ALLOCATOR].as_str(), Some(custody_core::INGEST_ALLOCATOR));
}
