//! The description of the API agrees with the template and with the code.

use custody_core::{problem::ProblemKind, upload::UploadStatus};
use strum::VariantArray as _;

use super::*;

type Operations = BTreeSet<(String, String)>;

/// The methods of an operation in `OpenAPI`.
const METHODS: [&str; 2] = ["get", "post"];

fn document() -> Yaml {
    let text = fs::read_to_string(root().join("docs/openapi.yaml")).unwrap();
    YamlLoader::load_from_str(&text).unwrap().remove(0)
}

fn entries(yaml: &Yaml) -> impl Iterator<Item = (&str, &Yaml)> {
    yaml.as_hash().into_iter().flatten().filter_map(|(name, value)| Some((name.as_str()?, value)))
}

/// Returns the method and the path of each operation of an `OpenAPI` document.
fn operations(paths: &Yaml) -> Operations {
    entries(paths)
        .flat_map(|(path, item)| {
            let methods = METHODS.into_iter().filter(|method| !item[*method].is_badvalue());
            methods.map(|method| (method.to_owned(), path.to_owned()))
        })
        .collect()
}

/// Returns the operations that the template routes to functions with an API key.
fn routed_operations(template: &Yaml) -> Operations {
    let functions = functions(template);
    let events = functions.values().flat_map(|function| entries(&function["Properties"]["Events"]));
    events
        .filter(|(_, event)| event["Type"].as_str() == Some("Api"))
        .map(|(_, event)| {
            let property = |name: &str| event["Properties"][name].as_str().unwrap().to_owned();
            (property("Method").to_lowercase(), property("Path"))
        })
        .collect()
}

#[test]
fn every_api_of_the_template_has_the_documented_operations() {
    let (document, template) = (document(), template());
    let documented = operations(&document["paths"]);
    assert_eq!(documented.len(), 7);
    assert_eq!(routed_operations(&template), documented);
    for api in ["IamApi", "TokenApi"] {
        let body = &template["Resources"][api]["Properties"]["DefinitionBody"];
        assert_eq!(operations(&body["paths"]), documented, "{api}");
    }
}

/// Returns the types of problems that are documented, with their statuses.
fn documented_problems(document: &Yaml) -> BTreeSet<(u16, String)> {
    let mut problems = BTreeSet::new();
    for (method, path) in operations(&document["paths"]) {
        for (status, response) in entries(&document["paths"][path.as_str()][method.as_str()]["responses"]) {
            let Some(name) = response["$ref"].as_str().and_then(|name| name.rsplit('/').next()) else {
                continue;
            };
            let content = &document["components"]["responses"][name]["content"]["application/problem+json"];
            let types = content["schema"]["allOf"][1]["properties"]["type"]["enum"].as_vec();
            let types = types.into_iter().flatten().filter_map(Yaml::as_str);
            problems.extend(types.map(|of| (status.parse().unwrap(), of.to_owned())));
        }
    }
    problems
}

/// Returns the types of API Gateway's own problems, with their statuses where the template sets one.
fn gateway_problems(template: &Yaml) -> Vec<(Option<u16>, String)> {
    let responses = &template["Resources"]["IngestApi"]["Properties"]["GatewayResponses"];
    entries(responses)
        .map(|(_, response)| {
            let text = response["ResponseTemplates"]["application/json"].as_str().unwrap();
            let of = text.split("\"type\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            let status = response["StatusCode"].as_i64().map(|status| u16::try_from(status).unwrap());
            (status, of.to_owned())
        })
        .collect()
}

#[test]
fn every_problem_is_documented_with_its_status_and_no_other_is() {
    let (documented, gateway) = (documented_problems(&document()), gateway_problems(&template()));
    let of_code: BTreeSet<_> = ProblemKind::VARIANTS
        .iter()
        .map(|kind| (kind.status(), format!("urn:custody:problem:{}", kind.slug())))
        .collect();
    assert_eq!(of_code.difference(&documented).collect::<Vec<_>>(), Vec::<&(u16, String)>::new());
    for (status, of) in &gateway {
        let is_documented =
            documented.iter().any(|(other, name)| name == of && status.is_none_or(|status| status == *other));
        assert!(is_documented, "{status:?} {of}");
    }
    for (status, of) in documented.difference(&of_code) {
        let is_gateway =
            gateway.iter().any(|(other, name)| name == of && other.is_none_or(|other| other == *status));
        assert!(is_gateway, "nothing answers {status} {of}");
    }
}

#[test]
fn the_model_of_the_template_requires_what_the_document_requires() {
    let (document, template) = (document(), template());
    let required = |schema: &Yaml| -> Names {
        schema["required"]
            .as_vec()
            .into_iter()
            .flatten()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let model = &template["Resources"]["IngestApi"]["Properties"]["Models"]["RecordEnvelope"];
    let schemas = &document["components"]["schemas"];
    assert_eq!(required(model), required(&schemas["Envelope"]));
    assert_eq!(required(&model["properties"]["messageMetaData"]), required(&schemas["MessageMetaData"]));
}

#[test]
fn the_names_of_states_are_those_of_the_code() {
    let document = document();
    let names = |schema: &Yaml| -> Names {
        schema["enum"].as_vec().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let schemas = &document["components"]["schemas"];
    let of_uploads = UploadStatus::VARIANTS.iter().map(ToString::to_string).collect::<Names>();
    assert_eq!(names(&schemas["Upload"]["properties"]["status"]), of_uploads);
    for status in names(&schemas["Status"]) {
        status.parse::<custody_core::record_query::RecordStatus>().unwrap();
    }
    for durability in names(&schemas["Durability"]) {
        let quoted = format!("\"{durability}\"");
        serde_json::from_str::<custody_core::receipt::Durability>(&quoted).unwrap();
    }
}
