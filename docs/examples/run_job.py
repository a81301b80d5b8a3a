"""Queue one prompt in ComfyUI, wait until its files are proven in the bucket, and print their keys and links as JSON.

    python run_job.py workflow_api.json

The workflow is in ComfyUI's API format. COMFYUI_URL says where ComfyUI listens (default http://127.0.0.1:8188).
Only Python's standard library is needed. Exit status 0: the job is complete, and it is safe to stop.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

COMFYUI_URL = os.environ.get("COMFYUI_URL", "http://127.0.0.1:8188")
WAIT_SECONDS = 60  # of one call; it answers earlier if the job is over
UNKNOWN_SECONDS = 30  # after that a queued prompt that is still unknown is an error


def call(path, body=None, timeout_seconds=90):
    """Call ComfyUI: POST with a body, else GET. Return the HTTP status and the answer's JSON, also of an error."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(COMFYUI_URL + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_until_started(seconds=600):
    """Wait until ComfyUI and the archive answer, and the store has accepted the credentials and the bucket."""
    deadline = time.monotonic() + seconds
    status = {}
    while time.monotonic() < deadline:
        try:
            _, status = call("/cloud-sync/status")
            if status["connection_verified"]:
                return
        except OSError:
            pass  # ComfyUI does not listen yet
        time.sleep(0.5)
    raise TimeoutError(f"Not ready after {seconds} s: {status.get('errors')}")


def run_job(prompt, options=None, seconds=3600):
    """Queue a prompt, wait until its job is over, and return the answer of GET /cloud-sync/jobs.

    Args:
        options: extra_data.cloud_archive, such as {"tags": ["client-a"]}.
        seconds: how long to wait.

    Raises:
        ValueError: ComfyUI refused the prompt.
        TimeoutError: the job is not over in time, or is not known.
    """
    code, queued = call("/prompt", {"prompt": prompt, "extra_data": {"cloud_archive": options or {}}})
    if code != 200:
        raise ValueError(f"ComfyUI refused the prompt: {json.dumps(queued)}")
    began = time.monotonic()
    while True:
        code, job = call(f"/cloud-sync/jobs/{queued['prompt_id']}?wait={WAIT_SECONDS}&urls=1")
        waited = time.monotonic() - began
        if code == 200 and job["state"] in ("complete", "failed"):
            return job
        if waited > seconds or (code == 200 and job["state"] == "unknown" and waited > UNKNOWN_SECONDS):
            raise TimeoutError(f"The job is not over after {waited:.0f} s: {json.dumps(job)}")
        if code != 200:
            time.sleep(1)  # the engine is restarting


def wait_until_safe(seconds=300):
    """Wait until it is safe to stop. Return whether it is."""
    code, _ = call("/cloud-sync/flush", {"timeout_seconds": seconds}, seconds + 30)
    return code == 200


if __name__ == "__main__":
    wait_until_started()
    with open(sys.argv[1], encoding="utf-8") as file:
        finished = run_job(json.load(file))
    print(json.dumps(finished))
    sys.exit(0 if finished["state"] == "complete" and wait_until_safe() else 1)
