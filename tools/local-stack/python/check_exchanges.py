"""Compares the answers that the end-to-end suites got with docs/openapi.yaml: nothing undocumented occurs, and every
documented answer occurs.

Usage: check_exchanges.py OPENAPI EXCHANGES [--partial]. With --partial, documented answers may be missing. Each line of EXCHANGES is the JSON of one exchange: method, path (after the
deployment stage), status, contentType, body. Exit status: 0 if they agree.
"""

import json
import os
import re
import sys

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012


def main(openapi, exchanges, *options):
    with open(openapi, encoding="utf-8") as file:
        document = yaml.safe_load(file)
    registry = Registry().with_resource("urn:api", Resource(contents=document, specification=DRAFT202012))
    # The longest template first: a parameter matches no slash.
    templates = [(re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path) + "$"), path) for path in document["paths"]]

    def resolve(response):
        while "$ref" in response:
            target = document
            for part in response["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            response = target
        return response

    documented = {
        (method.upper(), path, int(status)): resolve(response)
        for path, item in document["paths"].items()
        for method, operation in item.items() if method != "parameters"
        for status, response in operation["responses"].items()
    }
    in_memory = {
        (method.upper(), path, status)
        for path, item in document["paths"].items()
        for method, operation in item.items() if method != "parameters"
        for status in operation.get("x-tested-in-memory", [])
    }
    validators, seen, problems = {}, {}, []
    lines = []
    # A suite that talks to no API leaves no file.
    if "--partial" not in options or os.path.exists(exchanges):
        with open(exchanges, encoding="utf-8") as file:
            lines = file.readlines()
    for line in lines:
        exchange = json.loads(line)
        path = next((path for pattern, path in templates if pattern.fullmatch(exchange["path"])), None)
        if path is None or exchange["method"] == "OPTIONS":
            continue
        answer = (exchange["method"], path, exchange["status"])
        response = documented.get(answer)
        if response is None:
            problems.append(f"undocumented: {answer}: {exchange['body'][:200]}")
            continue
        seen[answer] = seen.get(answer, 0) + 1
        content = response.get("content")
        if content is None or "x-not-tested" in response:
            continue
        media_type = exchange["contentType"].split(";")[0].strip()
        if media_type not in content:
            problems.append(f"{answer}: the media type {media_type!r} is not documented")
            continue
        if id(response) not in validators:
            schema = inline(content[media_type]["schema"])
            validators[id(response)] = Draft202012Validator(schema, registry=registry)
        for error in validators[id(response)].iter_errors(json.loads(exchange["body"])):
            problems.append(f"{answer}: {error.json_path}: {error.message[:300]}")
    for answer, response in documented.items():
        if "--partial" not in options and answer not in seen and answer not in in_memory and "x-not-tested" not in response:
            problems.append(f"documented, and no test gets it: {answer}")
    for problem in sorted(set(problems))[:60]:
        print(problem)
    print(f"{sum(seen.values())} exchanges, {len(seen)} of {len(documented)} documented answers, {len(set(problems))} disagreements")
    return 1 if problems else 0


def inline(schema):
    """Makes the references of a schema absolute, so that they are resolved in the document."""
    if isinstance(schema, dict):
        return {key: f"urn:api{value}" if key == "$ref" else inline(value) for key, value in schema.items()}
    return [inline(item) for item in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
