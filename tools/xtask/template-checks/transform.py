"""Transforms a SAM template as CloudFormation would, without AWS, and writes it sorted.

usage: transform.py TEMPLATE OUTPUT [--for-linters]

OUTPUT ends in .json or .yaml. Code and definitions that are local paths become fixed S3 URIs, which the translator demands.
With --for-linters the output is not the one that would be deployed: a state machine's definition file is put in its
place, so that linters see it; and all conditions are true: resources lose their Condition, because checkov does not look at
one whose condition is false with the parameters' defaults, and each Fn::If becomes its first branch. The Metadata of a
resource name the one that it comes from.
"""

import argparse
import json
import logging
import os
import socket
import sys
from pathlib import Path

# What the translator asks boto3 for. Nothing is signed or sent.
os.environ.update(
    AWS_DEFAULT_REGION="us-east-1",
    AWS_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
)


def _refuse(*_args, **_kwargs):
    raise OSError("the transform must not use the network")


socket.socket.connect = _refuse

import boto3  # noqa: E402
import yaml  # noqa: E402
from samtranslator.parser.parser import Parser  # noqa: E402
from samtranslator.translator.translator import Translator  # noqa: E402
from samtranslator.utils.py27hash_fix import (  # noqa: E402
    to_py27_compatible_template,
    undo_mark_unicode_str_in_template,
)
from samtranslator.yaml_helper import yaml_parse  # noqa: E402

# The translator complains of a feature toggle of its own.
logging.disable(logging.WARNING)

LOCAL = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}


def transform(path: Path, for_linters: bool) -> dict:
    template = yaml_parse(path.read_text())
    # YAML's aliases are one object in many places, and the translator changes objects in place.
    template = json.loads(json.dumps(template))
    definitions = {}
    for logical_id, resource in template["Resources"].items():
        if for_linters:
            # SAM copies it to all that it makes of the resource.
            resource.setdefault("Metadata", {})["SamResourceId"] = logical_id
        name = LOCAL.get(resource["Type"])
        properties = resource.get("Properties", {})
        # It gives a deployment of an API another name each time.
        properties.pop("AlwaysDeploy", None)
        if name is None or not isinstance(properties.get(name), str):
            continue
        local = properties[name]
        properties[name] = f"s3://local/{local.rstrip('/')}"
        if name == "DefinitionUri":
            definitions[logical_id] = json.loads((path.parent / local).read_text().replace("${Partition}", "aws"))
    parameters: dict = {}
    to_py27_compatible_template(template, parameters)
    translator = Translator(
        # No function of this template names a managed policy; SAM's own are needed all the same.
        {},
        Parser(),
        boto_session=boto3.Session(region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"),
    )
    translated = translator.translate(template, parameter_values=parameters, passthrough_metadata=True)
    translated = undo_mark_unicode_str_in_template(translated)
    if for_linters:
        for resource in translated["Resources"].values():
            resource.pop("Condition", None)
        for logical_id, definition in definitions.items():
            properties = translated["Resources"][logical_id]["Properties"]
            properties["Definition"] = definition
            del properties["DefinitionS3Location"]
        translated["Resources"] = _choose(translated["Resources"])
        for output in translated["Outputs"].values():
            output.pop("Condition", None)
        translated["Outputs"] = _choose(translated["Outputs"])
        translated.pop("Conditions", None)
    return translated


def _choose(node):
    """The node with the first branch of each Fn::If, and without what is AWS::NoValue then."""
    if isinstance(node, dict):
        if set(node) == {"Fn::If"}:
            return _choose(node["Fn::If"][1])
        chosen = {key: _choose(value) for key, value in node.items()}
        return {key: value for key, value in chosen.items() if value != {"Ref": "AWS::NoValue"}}
    if isinstance(node, list):
        chosen = [_choose(value) for value in node]
        return [value for value in chosen if value != {"Ref": "AWS::NoValue"}]
    return node


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("template", type=Path)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--for-linters", action="store_true")
    arguments = arguments.parse_args()
    # A round through JSON turns the translator's own dictionaries and strings into Python's.
    translated = json.loads(json.dumps(transform(arguments.template, arguments.for_linters)))
    if arguments.output.suffix == ".json":
        text = json.dumps(translated, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    else:
        text = yaml.dump(translated, Dumper=_Dumper, sort_keys=True, width=120, allow_unicode=True)
    arguments.output.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
