"""Compares everything that the suites got from `custody --json` with the schema in docs/cli.schema.json.

Usage: check_cli_outputs.py SCHEMA OUTPUTS, where each line of OUTPUTS is {"arguments": [...], "output": ...}
"""

import json
import sys

from jsonschema import Draft202012Validator

# Commands that no suite can run, and why.
NOT_RUN = {
    "drain": "it prints only if the cache is closed, which is a deployment of its own",
    "watch": "it prints notifications, which are compared with their own schema",
}


def command_of(arguments, commands):
    """The command that the arguments begin with, behind the options of every command."""
    return next((name for name in (" ".join(arguments[:2]), arguments[0]) if name in commands), None)


def main(schema_file, outputs_file):
    with open(schema_file, encoding="utf-8") as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    commands, seen, problems = schema["properties"], {}, set()
    validators = {
        name: Draft202012Validator({**schema, "type": "object", "required": [name], "additionalProperties": False})
        for name in commands
    }
    with open(outputs_file, encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            command = command_of(entry["arguments"], commands)
            if command is None:
                problems.add(f"no schema for {entry['arguments']}")
                continue
            seen[command] = seen.get(command, 0) + 1
            for error in validators[command].iter_errors({command: entry["output"]}):
                problems.add(f"{command}: {error.json_path}: {error.message[:300]}")
    for problem in sorted(problems)[:40]:
        print(problem)
    print(f"{sum(seen.values())} outputs of {len(seen)} commands, {len(problems)} disagreements")
    missing = set(commands) - set(seen) - set(NOT_RUN)
    if missing:
        print(f"no suite ran {', '.join(sorted(missing))}")
    return 1 if problems or missing else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
