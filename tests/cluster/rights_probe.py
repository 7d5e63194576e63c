"""A workflow for test_two_programs.py: what it and a worker can do through the API."""

from parsl import python_app


def probe():
    """Try each verb on each kind with any token that is there; return the server's answers."""
    import contextlib
    import json
    import os
    import pathlib
    import ssl
    import urllib.error
    import urllib.request

    tokens = sorted(
        {
            str(path)
            for root in ("/var/run", "/run", "/etc", "/tmp")
            for path in _walk(root)
            if path.name == "token"
        }
    )
    token = pathlib.Path(tokens[0]).read_text() if tokens else ""
    base = (
        f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    )
    context = ssl._create_unverified_context()
    kinds = [
        "pods",
        "secrets",
        "configmaps",
        "services",
        "events",
        "persistentvolumeclaims",
        "serviceaccounts",
    ]
    verbs = [
        ("GET", "s"),
        ("POST", "s"),
        ("DELETE", "s"),
        ("GET", "s/x"),
        ("PUT", "s/x"),
        ("PATCH", "s/x"),
        ("DELETE", "s/x"),
    ]
    answers, allowed = [], []
    for kind in kinds:
        for verb, place in verbs:
            url = f"{base}/api/v1/namespaces/default/{kind}{place[1:]}"
            body = (
                json.dumps({"metadata": {"name": "x"}}).encode()
                if verb in ("POST", "PUT", "PATCH")
                else None
            )
            request = urllib.request.Request(url, data=body, method=verb)
            if token:
                request.add_header("Authorization", f"Bearer {token}")
            try:
                with contextlib.closing(
                    urllib.request.urlopen(request, context=context, timeout=10)
                ) as answer:
                    allowed.append(f"{verb} {kind} {answer.status}")
            except urllib.error.HTTPError as error:
                answers.append(error.code)
    settings = pathlib.Path("/etc/k8s-parsl/settings.yaml").exists()
    return {"tokens": tokens, "settings": settings, "allowed": allowed, "answers": answers}


def _walk(root):
    import os
    import pathlib

    for folder, _, files in os.walk(root):
        yield from (pathlib.Path(folder, name) for name in files)


@python_app
def in_worker():
    """As a task."""
    import rights_probe

    return rights_probe.probe()


def main():
    """One line of each."""
    import json

    print("PROBE workflow", json.dumps(probe()), flush=True)
    print("PROBE worker", json.dumps(in_worker().result()), flush=True)
