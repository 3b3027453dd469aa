#!/usr/bin/env python3
"""A Lambda function with a custom runtime, made to answer and to misbehave as its event says."""

import json
import os
import sys
import time
import urllib.error
import urllib.request

BASE = "http://%s/2018-06-01/runtime" % os.environ["AWS_LAMBDA_RUNTIME_API"]


def post(path, body):
    request = urllib.request.Request(BASE + path, data=body.encode(), method="POST")
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code


def main():
    start = os.environ.get("START")
    if start == "report":
        post("/init/error", json.dumps({"errorType": "Config.Missing", "errorMessage": "no QUEUE_URL"}))
        sys.exit(1)
    if start == "exit":
        sys.exit("gone before the first event")
    if start == "hang":
        time.sleep(3600)
    while True:
        with urllib.request.urlopen(BASE + "/invocation/next") as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            event = json.load(response)
        path = "/invocation/" + headers["lambda-runtime-aws-request-id"]
        act = event.get("act")
        if act == "fail":
            post(path + "/error", json.dumps({"errorType": "Handler.Error", "errorMessage": "as asked"}))
        elif act == "exit":
            print("leaving", flush=True)
            sys.exit(7)
        elif act == "hang":
            print("hanging", flush=True)
            time.sleep(3600)
        elif act == "text":
            post(path + "/response", "not json")
        elif act == "nothing":
            post(path + "/response", "")
        elif act == "wrong-id":
            status = post("/invocation/none/response", "{}")
            post(path + "/response", json.dumps(status))
        else:
            answer = {"event": event, "headers": headers, "env": dict(os.environ), "now_ms": time.time() * 1000}
            post(path + "/response", json.dumps(answer))


main()
