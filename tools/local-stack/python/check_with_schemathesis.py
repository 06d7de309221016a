"""Sends requests that schemathesis makes from docs/openapi.yaml to the stack: valid, invalid, and in sequences. Every answer must agree
with the document.

Usage: check_with_schemathesis.py OPENAPI. Exit status: that of schemathesis, 0 if all agree. The requests are the same in every run.
"""

import json
import os
import pathlib
import subprocess
import sys

EXAMPLES = 30


def main(openapi):
    here = pathlib.Path(__file__).resolve().parent
    with open(os.environ["CUSTODY_OUTPUTS"], encoding="utf-8") as file:
        url = json.load(file)["IngestUrl"].removesuffix("/ingestMessage")
    command = [
        pathlib.Path(sys.executable).with_name("schemathesis"), "--config-file", here / "schemathesis.toml",
        "run", pathlib.Path(openapi).resolve(), "--url", url, "--header", f"x-api-key: {os.environ['CUSTODY_API_KEY']}",
        "--tls-verify", os.environ["SSL_CERT_FILE"], "--checks", "all", "--continue-on-failure", "--max-redirects", "0",
        "--max-examples", str(EXAMPLES), "--generation-deterministic", "--request-timeout", "30", "--no-color",
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(here), "PYTHONDONTWRITEBYTECODE": "1"}
    # It writes files into the current folder.
    return subprocess.run(command, env=environment, cwd=os.environ["CUSTODY_STACK_FOLDER"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
