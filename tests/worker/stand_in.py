"""Stands in for Blender: starts a worker, gives it a job, says the worker's pid, and waits to be killed.

Run as `python -m tests.worker.stand_in FOLDER REQUEST_JSON [thread]`.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from inference.protocol import schema
from inference.protocol.client import WorkerClient
from inference.protocol.requests import SelftestRequest


def submit() -> None:
    client = WorkerClient(sys.executable, app="stand-in")
    job = client.submit(sys.argv[1], "selftest", schema.decode(SelftestRequest, json.loads(sys.argv[2])))
    print(client.pid, flush=True)
    while job.state not in ("running", "done"):  # a short job is over before it is seen to run
        job.poll()
        time.sleep(0.005)
    print("running", flush=True)
    if len(sys.argv) == 3:
        time.sleep(600)
    KEPT.append(client)


KEPT: list[WorkerClient] = []

if __name__ == "__main__":
    if len(sys.argv) == 3:
        submit()
    thread = threading.Thread(target=submit)
    thread.start()
    thread.join()
    print("thread ended", flush=True)
    time.sleep(600)
