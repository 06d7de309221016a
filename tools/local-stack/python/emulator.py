"""Starts MiniStack, and fixes the differences from AWS that matter to this template.

Each fix names the difference that it removes. The template itself is the same as on AWS. The fixes
belong to ministack 1.5.33: when a later release removes a difference, the fix can be deleted.
"""

import asyncio
import contextvars
import json
import os
import sys
import threading
import time
from asyncio import constants

from hypercorn.config import Config
from ministack import app
from emulator_iam import enforce_policies_as_iam_does
from ministack.core import lambda_runtime
from ministack.services import (
    apigateway_v1,
    cloudwatch,
    cloudwatch_logs,
    dynamodb,
    elasticache,
    lambda_svc,
    s3,
    sns,
    stepfunctions,
)
from ministack.services.cloudformation import changesets, engine, handlers, provisioners
from samtranslator.translator import transform as sam


def keep_message_attributes_of_workflow_publishes():
    """The sns:publish integration passes MessageAttributes as a JSON map, but the emulator reads only
    the query form. Without this fix, the attributes are lost, and subscribers' filter policies see none."""
    parse_query_form = sns._parse_message_attributes

    def parse(params):
        attributes = params.get("MessageAttributes")
        return attributes if isinstance(attributes, dict) else parse_query_form(params)

    sns._parse_message_attributes = parse


def give_each_parallel_branch_its_own_context():
    """In the emulator, branches share one context object, so $states.context.State (RetryCount, Name) and
    variables of one branch appear in another, and the history lacks the states that a branch enters.
    On AWS, each branch has its own context, and its states are in the history."""
    run = stepfunctions._run_sub_machine

    class StatesInHistory(dict):
        """The states of a branch. The emulator looks up each state once, when it enters the state."""

        def __init__(self, states, execution):
            super().__init__(states)
            self.execution = execution

        def get(self, name):
            state = super().get(name)
            if state:
                details = {"stateEnteredEventDetails": {"name": name, "input": "{}"}}
                stepfunctions._add_event(self.execution, f"{state['Type']}StateEntered", details)
            return state

    def run_with_own_context(states, start_at, input_data, execution, ctx):
        own = {**ctx, "variables": dict(ctx.get("variables", {}))}
        return run(StatesInHistory(states, execution), start_at, input_data, execution, own)

    stepfunctions._run_sub_machine = run_with_own_context


def import_all_of_an_openapi_body():
    """The emulator imports only paths and integration targets of an API. This fix adds what the template
    also relies on: mock responses (CORS preflight) and gateway responses."""
    import_api = apigateway_v1._import_rest_api
    import_operation = apigateway_v1._import_operation

    def operation_with_details(api_id, resource_id, http_method, operation, *rest):
        import_operation(api_id, resource_id, http_method, operation, *rest)
        method = apigateway_v1._resources[api_id][resource_id]["resourceMethods"][http_method]
        integration = (operation or {}).get("x-amazon-apigateway-integration") or {}
        target = method.get("methodIntegration")
        if target is not None:
            target["requestTemplates"] = integration.get("requestTemplates") or {}
            target["integrationResponses"] = {
                response["statusCode"]: {"selectionPattern": "" if name == "default" else name, **response}
                for name, response in (integration.get("responses") or {}).items()
            }

    def api_with_details(spec, base_data=None):
        create = apigateway_v1._create_rest_api

        def create_then_fill(data):
            policy = spec.get("x-amazon-apigateway-policy")
            answer = create({**data, "policy": json.dumps(policy)} if policy else data)
            api_id = json.loads(answer[2])["id"]
            for kind, settings in (spec.get("x-amazon-apigateway-gateway-responses") or {}).items():
                apigateway_v1._put_gateway_response(api_id, kind, settings)
            return answer

        apigateway_v1._create_rest_api = create_then_fill
        try:
            return import_api(spec, base_data)
        finally:
            apigateway_v1._create_rest_api = create

    apigateway_v1._import_operation = operation_with_details
    apigateway_v1._import_rest_api = api_with_details


def answer_failures_of_functions_as_the_gateway_does():
    """API Gateway answers the failure of a function with the gateway response DEFAULT_5XX and the status 502, and a function that Lambda
    throttles with the status 500 (AWS re:Post, "API Gateway proxy integration does not forward Lambda throttling"). The emulator answers
    with the text of the error."""
    invoke, render = apigateway_v1._invoke_lambda_proxy_v1, apigateway_v1._gateway_error_response

    async def invoke_with_gateway_response(*arguments, **named):
        answer = await invoke(*arguments, **named)
        # Custody's own answers never have these statuses.
        status = {502: 502, 429: 500}.get(answer[0]) if isinstance(answer, tuple) else None
        if status:
            answer = apigateway_v1._gw_error("DEFAULT_5XX", "Internal server error")
            answer.status = status
        return answer

    def render_with_status(error, request):
        status, headers, body = render(error, request)
        return getattr(error, "status", status), headers, body

    apigateway_v1._invoke_lambda_proxy_v1 = invoke_with_gateway_response
    apigateway_v1._gateway_error_response = render_with_status


def tell_functions_which_api_key_was_used():
    """The emulator's proxy event lacks identity.apiKey and identity.apiKeyId. Records store the id as
    evidence. The value is a secret that functions must not pass on; a test of that needs the value in the event."""
    build_event = apigateway_v1._build_lambda_event_v1

    def build_event_with_key(*arguments, **named):
        event = build_event(*arguments, **named)
        key = apigateway_v1._resolve_api_key(apigateway_v1._api_key_from_request(event["headers"]))
        if key is not None:
            event["requestContext"]["identity"].update(apiKey=key["value"], apiKeyId=key["id"])
        return event

    apigateway_v1._build_lambda_event_v1 = build_event_with_key


def make_every_replication_group_a_cluster():
    """The emulator refuses a group of two shards, and gives a group of one shard no configuration endpoint.
    AWS accepts any number from 1, and a group with the parameter cluster-enabled has the endpoint. The number
    of shards has no effect here: the endpoint is the address that the emulator was given for all caches."""
    create = elasticache._create_replication_group

    def create_with_shards_enough(params):
        shards = int(elasticache._p(params, "NumNodeGroups") or "1")
        return create({**params, "NumNodeGroups": str(max(shards, 3))})

    elasticache._create_replication_group = create_with_shards_enough


def say_that_no_cache_has_a_transaction_log():
    """The emulator's replication group lacks the attribute EffectiveDurability. Its value is `disabled`
    whatever the template requests, because the open-source server behind it has no transaction log."""
    attributes = provisioners._ec_rg_attrs
    provisioners._ec_rg_attrs = lambda group: {**attributes(group), "EffectiveDurability": "disabled"}


def copy_objects_as_s3_does():
    """The emulator's CopyObject ignores If-None-Match, and computes a digest only for a header of other requests.
    On AWS, a conditional copy refuses a key that has an object, and x-amz-checksum-algorithm names the digest."""
    copy = s3._copy_object

    def conditional_copy(bucket, key, headers):
        existing = (s3._ensure_bucket(bucket) or {}).get("objects", {}).get(key)
        algorithm = headers.get("x-amz-checksum-algorithm")
        if algorithm:
            headers = {**headers, "x-amz-sdk-checksum-algorithm": algorithm}
        return s3._check_put_preconditions(headers, existing) or copy(bucket, key, headers)

    s3._copy_object = conditional_copy


def take_numbers_of_parameters_as_numbers():
    """In the emulator, a parameter of the type Number stays text in a usage plan, which the SDKs cannot read. CloudFormation makes
    a number of it."""
    body_of = provisioners._apigw_usage_plan_body

    def number(value):
        return int(value) if isinstance(value, str) else value

    def body_with_numbers(properties):
        throttle = {name: number(value) for name, value in (properties.get("Throttle") or {}).items()}
        return body_of({**properties, **({"Throttle": throttle} if throttle else {})})

    provisioners._apigw_usage_plan_body = body_with_numbers


def let_services_be_away():
    """A service that is named in the stack's file `away` answers 503 to all clients and to workflows, as in an
    outage. With `hanging-` before its name, it answers after half a minute. Denied permissions are a
    different fault: a denial is not an outage."""
    path = os.path.join(os.environ["HOME"], "away")

    def is_away(service):
        try:
            with open(path, encoding="utf-8") as file:
                return service in file.read().split()
        except FileNotFoundError:
            return False

    def guarded(service, handler):
        async def handle(*arguments, **named):
            hangs = is_away(f"hanging-{service}")
            if hangs:
                await asyncio.sleep(30)
            if hangs or is_away(service):
                body = json.dumps({"__type": "ServiceUnavailable", "message": f"{service} is away"})
                return 503, {"Content-Type": "application/x-amz-json-1.0"}, body.encode()
            return await handler(*arguments, **named)

        return handle

    for service, handler in list(app.SERVICE_HANDLERS.items()):
        if service in ("s3", "dynamodb", "sns", "states"):
            app.SERVICE_HANDLERS[service] = guarded(service, handler)

    # Workflows call these two services directly, without the handlers.
    publish, delete_item = sns._publish, dynamodb._delete_item
    away = b'{"__type": "InternalServerErrorException", "message": "away"}'
    sns._publish = lambda params: (503, {}, away) if is_away("sns") else publish(params)
    dynamodb._delete_item = lambda data: (503, {}, away) if is_away("dynamodb") else delete_item(data)


def end_without_waiting_for_clients():
    """A client that keeps its connection open delays the emulator's stop by 30 s, the timeout of the TLS
    shutdown."""
    constants.SSL_SHUTDOWN_TIMEOUT = 1.0


def keep_connections_as_long_as_clients_do():
    """After a thousand requests, the server closes a connection while requests on it are in progress: their
    effects are done, but their answers are lost. Messages of a queue whose read is lost that way stay hidden."""
    Config.keep_alive_max_requests = 10**9


def make_versions_and_aliases_of_state_machines():
    """The emulator has versions and aliases of state machines, but not in CloudFormation. An alias moves at once here, as with
    ALL_AT_ONCE. An execution that an alias starts has the newest definition, because the emulator keeps no older one."""

    def answer_of(call, data):
        status, _, body = call(data)
        if status != 200:
            raise ValueError(json.loads(body)["message"])
        return json.loads(body)

    def publish(_logical_id, properties, _stack_name):
        revision = properties["StateMachineRevisionId"]
        data = {"stateMachineArn": properties["StateMachineArn"], "revisionId": revision}
        arn = answer_of(stepfunctions._publish_state_machine_version, data)["stateMachineVersionArn"]
        return arn, {"Arn": arn}

    def routing(properties):
        version = properties["DeploymentPreference"]["StateMachineVersionArn"]
        return [{"stateMachineVersionArn": version, "weight": 100}]

    def create_alias(_logical_id, properties, _stack_name):
        data = {"name": properties["Name"], "routingConfiguration": routing(properties)}
        arn = answer_of(stepfunctions._create_state_machine_alias, data)["stateMachineAliasArn"]
        return arn, {"Arn": arn}

    def update_alias(arn, _old_properties, properties, _stack_name):
        data = {"stateMachineAliasArn": arn, "routingConfiguration": routing(properties)}
        answer_of(stepfunctions._update_state_machine_alias, data)
        return arn, {"Arn": arn}

    provisioners._RESOURCE_HANDLERS["AWS::StepFunctions::StateMachineVersion"] = {
        "create": publish,
        "delete": lambda arn, _: stepfunctions._delete_state_machine_version({"stateMachineVersionArn": arn}),
    }
    provisioners._RESOURCE_HANDLERS["AWS::StepFunctions::StateMachineAlias"] = {
        "create": create_alias,
        "update": update_alias,
        "delete": lambda arn, _: stepfunctions._delete_state_machine_alias({"stateMachineAliasArn": arn}),
    }


def take_alarms_over_several_metrics():
    """The emulator refuses an alarm over a formula of metrics. Here it becomes one over the first of them; nothing evaluates alarms
    on the local stack."""
    record_of = provisioners._cw_metric_alarm_record

    def record_of_first(name, properties):
        metrics = [metric["MetricStat"] for metric in properties.get("Metrics") or () if "MetricStat" in metric]
        if not metrics:
            return record_of(name, properties)
        first = {**metrics[0]["Metric"], "Period": metrics[0]["Period"], "Statistic": metrics[0]["Stat"]}
        return record_of(name, {**{key: value for key, value in properties.items() if key != "Metrics"}, **first})

    provisioners._cw_metric_alarm_record = record_of_first


def keep_the_log_of_functions_that_do_not_start():
    """The emulator loses what a function has printed if the function ends before it asks for its first event, and calls that
    Runtime.Unknown. On AWS it is in the log, and the error is Runtime.ExitError. Source: AWS Lambda developer guide, "Lambda runtime
    environment", "Failures during the Init phase"."""
    worker_type, execute = lambda_runtime.ProvidedWorker, lambda_svc._execute_function_provided_warm
    invoke, log_suffix = worker_type.invoke, worker_type._init_log_suffix
    of_this_thread = threading.local()

    def keep_log_suffix(worker):
        suffix = log_suffix(worker)
        of_this_thread.log = suffix.removeprefix(": ")
        return suffix

    def invoke_and_keep_log(worker, *arguments, **named):
        try:
            return invoke(worker, *arguments, **named)
        except RuntimeError as error:
            of_this_thread.log = of_this_thread.log or worker._drain_stderr()
            error.error_type = "Runtime.ExitError"
            raise

    def execute_with_log(*arguments):
        of_this_thread.log = ""
        result = execute(*arguments)
        return {**result, "log": result.get("log") or of_this_thread.log}

    worker_type._init_log_suffix, worker_type.invoke = keep_log_suffix, invoke_and_keep_log
    lambda_svc._execute_function_provided_warm = execute_with_log


def log_what_functions_print_after_their_response():
    """On AWS, a line is in the log soon after a process prints it. The emulator reads a process's lines until shortly after the response;
    it keeps later ones, as those of work that follows the response, until the same process has its next event, and loses them if it has none.
    Source: AWS Lambda developer guide, "Sending Lambda function logs to CloudWatch Logs". That it holds for lines after the response is
    unverified on AWS."""
    invoke = lambda_runtime.ProvidedWorker.invoke

    def invoke_in_known_account(worker, *arguments, **named):
        worker.account_and_region = contextvars.copy_context()
        return invoke(worker, *arguments, **named)

    def append_to_log(config, lines):
        log = {
            "logGroupName": (config.get("LoggingConfig") or {}).get("LogGroup", f"/aws/lambda/{config['FunctionName']}"),
            "logStreamName": f"after-responses/[{config['Version']}]",
        }
        cloudwatch_logs._create_log_stream(log)
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in lines]
        status, _, body = cloudwatch_logs._put_log_events({**log, "logEvents": events})
        if status != 200:
            raise RuntimeError(body)

    def lines_of_idle_processes():
        # Under this lock, no process gets an event. What an invocation prints stays for the emulator's own reader.
        with lambda_runtime._lock:
            workers = [worker for pool in lambda_runtime._workers.values() for worker in pool]
            idle = [worker for worker in workers if not worker.in_use and hasattr(worker, "account_and_region")]
            return [(worker, worker._drain_stderr().splitlines()) for worker in idle]

    def collect():
        while True:
            time.sleep(0.2)
            for worker, lines in lines_of_idle_processes():
                try:
                    if lines:
                        worker.account_and_region.run(append_to_log, worker.config, lines)
                except Exception as error:  # Later lines must be logged, whatever is wrong with these.
                    print(f"lines of {worker.func_name} are not logged: {error!r}", file=sys.stderr, flush=True)

    lambda_runtime.ProvidedWorker.invoke = invoke_in_known_account
    threading.Thread(target=collect, daemon=True, name="late-log-lines").start()


def limit_all_versions_of_a_function_together():
    """In the emulator, the reserved concurrency of a function limits only $LATEST. On AWS it is shared by all versions and aliases."""
    reserved_of = lambda_svc._reserved_concurrency

    def reserved(function, config):
        own = reserved_of(function, config)
        whole = lambda_svc._functions.get(config.get("FunctionName")) or {}
        return own if own is not None else reserved_of(whole, {})

    lambda_svc._reserved_concurrency = reserved


def read_metrics_from_logs():
    """CloudWatch reads the lines of a function's log that are in its embedded metric format as metrics. The emulator keeps them as text
    only. Source: Amazon CloudWatch user guide, "Specification: Embedded metric format"."""
    append = cloudwatch_logs._append_log_events

    def append_and_measure(stream, events):
        append(stream, events)
        for event in events:
            if '"CloudWatchMetrics"' in event["message"]:
                measure(json.loads(event["message"]))

    def measure(line):
        for directive in line["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = {name: line[name] for name in names}
                for metric in directive["Metrics"]:
                    value = line[metric["Name"]]
                    cloudwatch.record_metric(directive["Namespace"], metric["Name"], value, metric["Unit"], dimensions)

    cloudwatch_logs._append_log_events = append_and_measure


def transform_with_the_values_of_parameters():
    """CloudFormation gives the transform of SAM the parameters' values, and SAM puts them in their places below Auth. The
    emulator gives it none, so that the defaults would be in effect there."""
    apply, transform_of_sam = engine._apply_transforms, sam.transform
    values = {}

    def apply_with_values(template, provided=None, previous=None):
        values.clear()
        values.update(engine._transform_parameters(template, provided, previous))
        return apply(template, provided, previous)

    for module in (engine, changesets, handlers):
        module._apply_transforms = apply_with_values
    sam.transform = lambda template, _, policies: transform_of_sam(template, dict(values), policies)


if __name__ == "__main__":
    end_without_waiting_for_clients()
    keep_connections_as_long_as_clients_do()
    keep_message_attributes_of_workflow_publishes()
    give_each_parallel_branch_its_own_context()
    import_all_of_an_openapi_body()
    answer_failures_of_functions_as_the_gateway_does()
    tell_functions_which_api_key_was_used()
    make_every_replication_group_a_cluster()
    say_that_no_cache_has_a_transaction_log()
    copy_objects_as_s3_does()
    transform_with_the_values_of_parameters()
    make_versions_and_aliases_of_state_machines()
    take_alarms_over_several_metrics()
    read_metrics_from_logs()
    keep_the_log_of_functions_that_do_not_start()
    log_what_functions_print_after_their_response()
    limit_all_versions_of_a_function_together()
    take_numbers_of_parameters_as_numbers()
    enforce_policies_as_iam_does()
    let_services_be_away()
    app.main()
