"""Compares every notification that the suites have seen with the schema in docs/notification.schema.json.

Usage: check_notifications.py SCHEMA MESSAGES, where MESSAGES has one JSON document in each line
"""

import json
import sys

from jsonschema import Draft202012Validator


def main(schema_file, messages_file):
    with open(schema_file, encoding="utf-8") as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    # Subscribers must take fields of later releases; this release has no others.
    schema["properties"]["data"]["additionalProperties"] = False
    validator, seen, problems = Draft202012Validator(schema), {}, set()
    with open(messages_file, encoding="utf-8") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            # The file has dead letters and rejected requests, too.
            if not isinstance(event, dict) or not str(event.get("type", "")).startswith("custody.message."):
                continue
            seen[event["type"]] = seen.get(event["type"], 0) + 1
            for error in validator.iter_errors(event):
                problems.add(f"{event['type']}: {error.json_path}: {error.message[:300]}")
    for problem in sorted(problems)[:40]:
        print(problem)
    print(f"{sum(seen.values())} notifications of {len(seen)} types, {len(problems)} disagreements")
    missing = set(schema["properties"]["type"]["enum"]) - set(seen)
    if missing:
        print(f"no suite saw {', '.join(sorted(missing))}")
    return 1 if problems or missing else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
