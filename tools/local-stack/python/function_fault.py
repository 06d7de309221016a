"""Breaks a function, or mends it.

Usage:
  function_fault.py without FUNCTION SETTING   a new version without this setting takes all calls; prints the version before
  function_fault.py back FUNCTION VERSION      this version takes all calls again, as CodeDeploy has it when it rolls back
  function_fault.py throttle FUNCTION          Lambda runs it no more, as if a quota were used up
  function_fault.py release FUNCTION           Lambda runs it again
"""

import sys

import boto3

ALIAS = "live"


def without(aws, function, setting):
    settings = aws.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    fewer = {name: value for name, value in settings.items() if name != setting}
    assert fewer != settings, f"{function} has no setting {setting}"
    aws.update_function_configuration(FunctionName=function, Environment={"Variables": fewer})
    version = aws.publish_version(FunctionName=function)["Version"]
    aws.update_function_configuration(FunctionName=function, Environment={"Variables": settings})
    print(aws.get_alias(FunctionName=function, Name=ALIAS)["FunctionVersion"])
    back(aws, function, version)


def back(aws, function, version):
    aws.update_alias(FunctionName=function, Name=ALIAS, FunctionVersion=version)


def throttle(aws, function):
    aws.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)


def release(aws, function):
    aws.delete_function_concurrency(FunctionName=function)


if __name__ == "__main__":
    {"without": without, "back": back, "throttle": throttle, "release": release}[sys.argv[1]](
        boto3.client("lambda"), *sys.argv[2:]
    )
