"""What an OpenAPI document cannot say, for schemathesis: requests that fit the document and are rightly rejected are not sent, and a
request that is answered with 503 and Retry-After is sent again, as the document tells producers."""

import requests.adapters
import schemathesis
from urllib3.util import Retry

send = requests.adapters.HTTPAdapter.send


class RetryAfter503(Retry):
    RETRY_AFTER_STATUS_CODES = frozenset([503])


def send_again_after_503(adapter, *arguments, **named):
    adapter.max_retries = RetryAfter503(total=6, connect=False, read=False, other=False, allowed_methods=None, raise_on_status=False)
    return send(adapter, *arguments, **named)


requests.adapters.HTTPAdapter.send = send_again_after_503


@schemathesis.hook
def filter_case(context, case):
    if case.operation.label == "GET /messages":
        # A list is of a source system or of a transaction, from an earlier to a later time, and a cursor is valid only if an answer
        # has had it.
        query = case.query or {}
        is_one = ("sourceSystemID" in query) != ("sourceTransactionID" in query)
        return is_one and "cursor" not in query and not ("from" in query and "to" in query)
    # The local stack has no durable cache, and a digest is valid only for its body.
    headers = case.headers or {}
    if headers.get("Custody-Durability") == "durable" or headers.get("Content-Digest"):
        return False
    # For JSON Schema, 2.0 is an integer, and a number in metadata may be one that not every reader can represent.
    if isinstance(case.body, dict):
        return not has_float({name: value for name, value in case.body.items() if name not in ("messagePayload", "data")})
    return True


def has_float(value):
    if isinstance(value, dict):
        return any(map(has_float, value.values()))
    if isinstance(value, list):
        return any(map(has_float, value))
    return isinstance(value, float) or (isinstance(value, int) and abs(value) > 2**53)
