"""The program that sends one message, or only reads its URLs: a process that the launcher starts.

It is apart from the launcher because apprise logs URLs, which are secrets, and because a service
that does not answer, or a wrong answer, must not cost the launcher more than a killed process. It
reads an order from standard input, and prints one line for each URL that worked.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
import threading
from typing import Any

Json = dict[str, Any]


def main() -> None:
    """Do what the order on standard input says."""
    order: Json = json.load(sys.stdin)
    # It ends also if the launcher is gone.
    signal.alarm(math.ceil(order["seconds"]) + 1)
    logging.disable(logging.CRITICAL)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    sys.stdout = sys.stderr
    lock = threading.Lock()

    def work(line: str, url: str) -> None:
        if _is_well(url, order):
            with lock:
                answers.write(f"{line}\n")
                answers.flush()

    threads = [
        threading.Thread(target=work, args=item, daemon=True) for item in order["urls"].items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _is_well(url: str, order: Json) -> bool:
    """Return whether apprise knows the service of a URL, and the service takes the message."""
    import apprise

    asset = apprise.AppriseAsset(app_id="k8s-parsl", app_desc="k8s-parsl", app_url="")
    try:
        service = apprise.Apprise.instantiate(url, asset=asset)
        if service is None:
            return False
        message = order.get("message")
        if message is None:
            return True
        # The launcher has the deadline: a shorter one here would send a message twice that a slow
        # service takes after all.
        service.socket_connect_timeout = order["seconds"]
        service.socket_read_timeout = order["seconds"]
        sender = apprise.Apprise(asset=asset)
        sender.add(service)
        taken = sender.notify(
            title=message["subject"],
            body=message["body"],
            notify_type=message["tone"],
            body_format=apprise.NotifyFormat.TEXT,
            interpret_escapes=False,
        )
        return bool(taken)
    except Exception:  # noqa: BLE001 (one of 130 services; its error may quote the URL)
        return False


if __name__ == "__main__":
    main()
