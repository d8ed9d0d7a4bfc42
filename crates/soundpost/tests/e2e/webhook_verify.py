"""Verifies webhooks with the PyPI `pusher` package, unmodified: for each line of JSON on standard input,
`{"app": {"key", "secret"}, "key", "signature", "body"}`, one on standard output: what the package made of it, or null."""

import json
import sys

import pusher


def verdict(app, key, signature, body):
    # The id stands in no webhook; this package wants one of digits.
    sdk = pusher.Pusher(app_id="1", key=app["key"], secret=app["secret"], host="127.0.0.1", ssl=False)
    try:
        return sdk.validate_webhook(key, signature, body)
    except TypeError:
        # A header is missing.
        return None


for line in sys.stdin:
    print(json.dumps(verdict(**json.loads(line))), flush=True)
