"""checkov over a transformed template, with the suppressions judged: each has a reason, and each is still needed.

usage: lint_checkov.py CHECKOV TRANSFORMED.json

A suppression stands at its resource, as checkov's documentation has it:
    Metadata: {checkov: {skip: [{id: CKV_AWS_115, comment: The reason.}]}}
SAM copies the Metadata of a resource to all resources that it makes of it. checkov itself takes a suppression without asking
whether its check would fail, so it gets the template without them here.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# A reason is a sentence.
REASON = re.compile(r"\S+( \S+){2,}\.")


def main():
    checkov, path = sys.argv[1:]
    template = json.loads(Path(path).read_text())
    # (resource, check): the resource of the SAM template whose suppression it is.
    suppressed, problems = {}, set()
    for logical_id, resource in template["Resources"].items():
        metadata = resource.pop("Metadata", {})
        origin = metadata.get("SamResourceId", logical_id)
        for skip in metadata.get("checkov", {}).get("skip", []):
            suppressed[logical_id, skip["id"]] = origin
            if not REASON.fullmatch(skip.get("comment", "")):
                problems.add(f"{origin}: the suppression of {skip['id']} has no reason")
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "template.json"
        plain.write_text(json.dumps(template, indent=2))
        done = subprocess.run(
            [checkov, "--framework", "cloudformation", "--skip-download", "--compact", "--quiet",
             "--output", "json", "--file", plain],
            env={**os.environ, "CKV_SKIP_PACKAGE_UPDATE_CHECK": "true", "BC_SKIP_MAPPING": "TRUE"},
            stdout=subprocess.PIPE, text=True,
        )
    # 1: checks failed. A template that cannot be read also ends with 0 or 1, so the counts decide.
    if done.returncode not in (0, 1):
        raise SystemExit(f"checkov ended with {done.returncode}")
    report = json.loads(done.stdout)
    summary = report["summary"]
    if summary["parsing_errors"] or summary["passed"] == 0 or summary["resource_count"] < len(template["Resources"]):
        raise SystemExit(f"checkov did not see the whole template: {summary}")
    failed = {(check["resource"].rsplit(".", 1)[1], check["check_id"]): check["check_name"]
              for check in report["results"]["failed_checks"]}
    problems |= {f"{resource}: {check}: {name}" for (resource, check), name in failed.items()
                 if (resource, check) not in suppressed}
    # It may be needed at any resource that SAM made of its own.
    needed = {(suppressed[key], key[1]) for key in failed if key in suppressed}
    problems |= {f"{origin}: {check} no longer fails: delete its suppression"
                 for (_, check), origin in suppressed.items() if (origin, check) not in needed}
    for problem in sorted(problems):
        print(problem)
    print(f"checkov: {summary['passed']} passed, {len(failed)} failed, of which {len(failed.keys() & suppressed.keys())} accepted")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
