"""`helm uninstall` while processes of the launcher's pod are stopped (SIGSTOP) leaves nothing."""

from __future__ import annotations

import contextlib

from . import host

SHORT_GRACE = {"launcher": {"pod": {"terminationGracePeriodSeconds": 10}}}


def uninstalled(run, report, who, frozen):
    """Stop what ``frozen`` finds in the launcher pod of a busy run, uninstall, and report it.

    ``who`` names it.
    """
    run.start(values=SHORT_GRACE)
    run.until_busy()
    old, workers = run.launcher(), run.workers()
    running = [process for worker in workers for process in host.processes_of(worker)]
    with contextlib.ExitStack() as stack:
        for process in frozen(old):
            stack.enter_context(host.frozen(process))
        run.uninstall()
        run.until_gone(old)
    for worker in workers:
        run.until_gone(worker, 60)
    dead = host.until_dead(running, 30)
    after = max(worker.gone_at for worker in workers) - old.gone_at
    row = run.finish(
        f"helm uninstall, {who} does not listen",
        confirmed="SIGSTOP; uid of launcher pod gone after its grace period",
        uninstalled=True,
        spare_slot=False,
        note=f"the last worker pod was gone {after:.1f} s after the launcher's",
    )
    # What was not done is not lost: the user uninstalled the release.
    row.lost, row.message = None, ""
    report(row, outcome="uninstalled", lost=None)
    assert dead is not None
