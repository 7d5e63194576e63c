"""Sends messages about a run to the services that the user has named (docs/user/notify.md).

The URLs are secrets: no log line has any part of one. Each message has its thread and its process
(`send`), so neither a service that does not answer nor apprise itself can hold up the run.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any

from k8s_parsl.config.settings import Notify
from k8s_parsl.identity import NOTIFY_URLS, PREFIX
from k8s_parsl.journal.state import State
from k8s_parsl.views.notify import Notice, Triggers, lines_of, named, notice
from k8s_parsl.views.words import duration

log = logging.getLogger(__name__)

# A message has so long to be sent, with all its tries.
SEND_S = 10.0
# Pauses before the further tries: a service may be away for a moment.
PAUSES_S = (1.0, 2.0)
# How soon a process that sends is ended after the run's end.
LOOK_S = 0.5
# Import of apprise included.
CHECK_S = 30.0
# More lines of the Secret are not read.
MOST_URLS = 20
MOST_CHARACTERS = 64 * 1024
HELP = "see https://appriseit.com/services"


def notifier(
    settings: Notify, environment: Mapping[str, str], name: str, report: str
) -> Notifier | None:
    """Return what sends the messages of a run; None where the user wants none.

    Args:
        settings: about what there are messages.
        environment: has the URLs.
        name: of the release, for the subject.
        report: where the report will be; empty if there is none.
    """
    if not settings.when:
        return None
    found = lines_of(environment.get(NOTIFY_URLS, "")[:MOST_CHARACTERS])
    if not found:
        _say_none(settings)
        return None
    urls = dict(list(found.items())[:MOST_URLS])
    if len(found) > len(urls):
        log.warning("notify.secret: only the first %d URLs get messages", MOST_URLS)
    return Notifier(settings, urls, name, report)


def _say_none(settings: Notify) -> None:
    if settings.secret:
        log.warning(
            "notify.secret: no messages about the run: %s is not set; in a pod it is read from"
            " Secret %s, key %s (notify.secretKey), on a laptop set it yourself",
            NOTIFY_URLS,
            settings.secret,
            settings.secret_key,
        )


class Notifier:
    """Sends each message once, and says in one line where it could not.

    Args:
        settings: about what there are messages.
        urls: by the number of their line in the Secret.
        name: of the release.
        report: where the report will be; empty if there is none.
    """

    def __init__(self, settings: Notify, urls: Mapping[int, str], name: str, report: str) -> None:
        self._settings = settings
        self._urls = urls
        self._name = name
        self._report = report
        self._triggers = Triggers(settings)
        self._threads: list[threading.Thread] = []
        # The run has ended, and nothing is sent any more.
        self._over = threading.Event()
        # The end of the run does not wait for it.
        _thread("check", self._check).start()

    def look(self, state: State) -> None:
        """Send the messages that are due, each in its thread."""
        for about in self._triggers.due(state):
            stall_after = self._settings.stall_after
            due = notice(about, state, self._name, stall_after, self._report)
            self._in_thread(due)

    def finish(self, deadline: float) -> None:
        """Wait for the messages, but no longer than to a moment of the monotonic clock."""
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        self._over.set()
        if any(thread.is_alive() for thread in self._threads):
            log.warning("%s: the run ends before the message about it was taken", self._key)

    @property
    def _key(self) -> str:
        if self._settings.secret:
            return f"notify.secret: Secret {self._settings.secret}"
        return f"notify.secret: {NOTIFY_URLS}"

    def _in_thread(self, due: Notice) -> None:
        thread = _thread(due.about, lambda: self._send(due))
        self._threads.append(thread)
        thread.start()

    def _check(self) -> None:
        """Warn about URLs that are wrong."""
        known = _worked(self._urls, None, CHECK_S, self._over)
        if known is None:
            return
        wrong = self._urls.keys() - known
        if wrong:
            log.warning(
                "%s: %s of it: no URL of a service that apprise knows; %s",
                self._key,
                named(wrong),
                HELP,
            )

    def _send(self, due: Notice) -> None:
        began = time.monotonic()
        deadline = began + SEND_S
        left = dict(self._urls)
        tries = 0
        for pause in (0.0, *PAUSES_S):
            if time.monotonic() + pause >= deadline or self._over.wait(pause):
                break
            tries += 1
            within = deadline - time.monotonic()
            taken = _worked(left, asdict(due), within, self._over) or set()
            left = {line: url for line, url in left.items() if line not in taken}
            if not left:
                log.info("sent the message about: %s", due.about)
                return
        if self._over.is_set():
            # `finish` has said so.
            return
        log.warning(
            "%s: the services of %s did not take the message about: %s (%s in %s)",
            self._key,
            named(left),
            due.about,
            "1 try" if tries == 1 else f"{tries} tries",
            duration(time.monotonic() - began),
        )


def _answer(
    process: subprocess.Popen[str], order: str, seconds: float, over: threading.Event
) -> tuple[str, bool]:
    """Return what a process prints, and whether it ended by itself: else it is killed."""
    deadline = time.monotonic() + seconds
    given: str | None = order
    while (left := deadline - time.monotonic()) > 0 and not over.is_set():
        try:
            return process.communicate(given, min(left, LOOK_S))[0], True
        except subprocess.TimeoutExpired:
            # Python has kept what it has read so far, and what it has still to write.
            given = None
    process.kill()
    return process.communicate()[0], False


def _thread(name: str, act: Callable[[], None]) -> threading.Thread:
    return threading.Thread(target=act, name=f"notify {name}", daemon=True)


def _worked(
    urls: Mapping[int, str],
    message: Mapping[str, Any] | None,
    seconds: float,
    over: threading.Event,
) -> Collection[int] | None:
    """Return the lines whose URL worked: it is well formed, and its service took the message.

    Args:
        urls: by line.
        message: what is sent; None: nothing, the URLs are only read.
        seconds: how long it may take.
        over: once it is set, no thread waits for the answer.

    Returns:
        None where the process that should find out could not, or was too late.
    """
    order = {"urls": urls, "message": message, "seconds": seconds}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    # -P: no module of the working directory.
    command = [sys.executable, "-P", "-m", "k8s_parsl.run.send"]
    try:
        process = subprocess.Popen(  # noqa: S603 (this program)
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        return None
    told, in_time = _answer(process, json.dumps(order), seconds, over)
    if message is None and (process.returncode or not in_time):
        return None
    return {int(line) for line in told.split() if line.isdecimal()}
