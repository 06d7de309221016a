"""Takes on a role, and prints its credentials as JSON: a map of environment variables.

Usage: assume_role.py ROLE_ARN
"""

import json
import sys

import roles

credentials = roles.credentials_of(sys.argv[1])
print(json.dumps({
    "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
    "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
    "AWS_SESSION_TOKEN": credentials["SessionToken"],
}))
