"""The command line: for people, and `checkout` and `ceph-key` for the chart's pods.

At every end the last line says what happened, and so does the pod's termination message.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from k8s_parsl.log import to_stderr
from k8s_parsl.stopping import STOPPING, Interrupted, handle_signals, interrupt
from k8s_parsl_runtime.shared import errors


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="k8s-parsl", prog_name="k8s-parsl")
def commands() -> None:
    """Run a Parsl workflow from a values file, on this machine or in Kubernetes."""


@commands.command(short_help="Run a workflow on this machine, from a values file.")
@click.option(
    "-f",
    "--values",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Values file, as for helm install. May be repeated; a later file wins.",
)
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="Folder of the workflow's code, instead of workflow.path.",
)
@click.option(
    "--volumes",
    type=click.Path(path_type=Path),
    default=Path("local"),
    show_default=True,
    help="Folder with one folder for each volume of the values.",
)
@click.option(
    "--python",
    default="",
    help="Python interpreter that has Parsl and your packages, instead of laptop.python.",
)
@click.option(
    "--fresh",
    is_flag=True,
    help="Start from the beginning: take over no results of an older run.",
)
def run(
    values: tuple[Path, ...], path: Path | None, volumes: Path, python: str, *, fresh: bool
) -> None:
    """Run the workflow of the values files (-f) on this machine.

    In a launcher's pod it takes no options: the chart mounts the settings there.
    """
    if values:
        from k8s_parsl.run import laptop

        laptop.on_laptop(list(values), path, volumes, python, fresh=fresh)
    else:
        from k8s_parsl.run import pod

        pod.in_pod(dict(os.environ))


@commands.command(short_help="List what a release needs or waits for. Changes nothing.")
@click.argument("release", default="")
@click.option(
    "-f",
    "--values",
    multiple=True,
    help="Values file, as for helm install: check whether the install would work.",
)
@click.option("--set", "sets", multiple=True, help="KEY=VALUE, as for helm install.")
@click.option(
    "--chart", default="chart", show_default=True, help="Folder of the chart, as for helm install."
)
@click.option(
    "-n",
    "--namespace",
    default="",
    help="Namespace of the release. Default: that of the kubeconfig's context.",
)
def check(
    release: str, values: tuple[str, ...], sets: tuple[str, ...], chart: str, namespace: str
) -> None:
    """List what the release named RELEASE waits for, or with -f what is missing for its install.

    Lines with !! name what to change, or what to ask an administrator for; the exit code is then
    78. The command changes nothing. It uses your kubeconfig, or in a launcher's pod the
    ServiceAccount of that pod. With -f it needs helm on PATH.
    """
    from k8s_parsl.check import command as checks

    bad = 0
    total = 0
    try:
        for result in checks.results(dict(os.environ), release, namespace, values, sets, chart):
            click.echo(result)
            total += 1
            if result.is_problem:
                bad += 1
        if bad:
            raise errors.ConfigurationError(f"{bad} of {total} lines above need something")
    except errors.Failure as failure:
        # With `kubectl exec` it runs beside a launcher, whose termination message this is not.
        click.echo(f"k8s-parsl: {failure}", err=True)
        raise click.exceptions.Exit(int(failure.exit_code)) from None


@commands.command(short_help="List the runs of a volume.")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def runs(folder: Path | None, *, as_json: bool) -> None:
    """List the runs in FOLDER: when, what, how long, how they ended, tasks, pod-hours.

    FOLDER is a volume's folder, or on a machine without a cluster the one of all volumes. Default:
    `local`, and in a launcher's pod the volumes of the values.
    """
    from k8s_parsl.views import history, terminal

    places = [folder] if folder else history.places()
    found = [run for place in places for run in history.runs(place)]
    terminal.print_runs(found, as_json=as_json)


@commands.command(short_help="Show one run: tasks, pods, failures.")
@click.argument("run", default="last")
@click.option("--task", type=int, help="Number of a task: show only that one.")
@click.option("--attempt", type=int, help="Attempt that had the task. Default: the last one.")
@click.option("--failed", is_flag=True, help="Show only what failed.")
@click.option("--resumable", is_flag=True, help="Show which results a later run can take over.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the page of the run, or with --task of the task, into FILE; - is standard output.",
)
def show(
    run: str,
    task: int | None,
    attempt: int | None,
    html: Path | None,
    *,
    failed: bool,
    resumable: bool,
    as_json: bool,
) -> None:
    """Show RUN: its folder, the beginning of its name, or `last` (the default).

    This also works while it runs, and when its launcher is long gone.
    """
    from k8s_parsl.views import history, terminal

    if html and (failed or as_json):
        raise errors.UsageError("--html: the page has it all; leave out --json and --failed")
    if task is None and attempt is not None:
        raise errors.UsageError("--attempt: say which task of it: --task N")
    if task is not None and failed:
        raise errors.UsageError("--failed: shows all tasks that failed; leave out --task")
    if resumable and (html or failed or task is not None):
        raise errors.UsageError("--resumable: leave out --task, --failed and --html")
    found = history.find(run)
    if resumable:
        from k8s_parsl.views.resumable import print_resumable

        print_resumable(found, as_json=as_json)
        return
    if html:
        from k8s_parsl.views import export

        if task is None:
            written = export.write_run(found, html)
        else:
            written = export.write_task(found, attempt, task, html)
        if written:
            click.echo(written)
        return
    if task is None:
        terminal.print_run(found, failed=failed, as_json=as_json)
        return
    terminal.print_task(found, attempt, task, as_json=as_json)


@commands.command(short_help="Check the outputs of one run against their hashes.")
@click.argument("run", default="last")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(run: str, *, as_json: bool) -> None:
    """Check the outputs of RUN: its folder, the beginning of its name, or `last` (the default).

    An output is what a task has written by k8s_parsl.outputs. The command reads all of them, and
    names those that are missing, changed or truncated; the exit code is then 65.
    """
    from k8s_parsl.views import history
    from k8s_parsl.views import verify as verifying

    verifying.print_outputs(history.find(run), as_json=as_json)


KEEP_HELP = "All but so many of the latest runs of each release, or on a laptop of each workflow."


@commands.command(short_help="Remove old runs of a volume; a dry run without --yes.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--days", type=click.FloatRange(min=0), help="Runs that ended so many days ago.")
@click.option("--keep", type=click.IntRange(min=0), help=KEEP_HELP)
@click.option("--yes", is_flag=True, help="Remove them. Without it, the command only lists them.")
def prune(folder: Path, days: float | None, keep: int | None, *, yes: bool) -> None:
    """Remove the folders of old runs in FOLDER: report, journal, logs, checkpoints, working folder.

    With both options, a run goes if either says so. A run whose launcher works stays. What the
    workflow wrote elsewhere on the volume stays, too.
    """
    from k8s_parsl.views import terminal

    if days is None and keep is None:
        raise errors.UsageError("prune: say which runs: --days or --keep")
    if days is not None and not math.isfinite(days):
        raise errors.UsageError(f"--days: {days} is no number of days")
    terminal.print_pruned(folder, days, keep, remove=yes)


@commands.command(hidden=True)
@click.option("--url", required=True, help="The repository, https:// or http://.")
@click.option("--commit", required=True, help="Full id of the commit.")
@click.option("--path", default="", help="Folder of the repository, instead of all of it.")
@click.option("--secret", default="", help="Where the credentials in the environment come from.")
@click.argument("folder", type=click.Path(path_type=Path))
def checkout(folder: Path, **git: str) -> None:
    """Put a commit's files into FOLDER: the init container of pods with workflow.git."""
    from k8s_parsl.config.settings import Git
    from k8s_parsl.run import checkout as checkouts

    logging.getLogger("k8s_parsl").setLevel("INFO")
    checkouts.in_pod(Git.parse(git, "workflow.git"), folder, os.environ)


@commands.command(hidden=True)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("/etc/k8s-parsl/ceph-key.yaml"),
    show_default=True,
    help="File that says where the key is and which Secret it goes to.",
)
def ceph_key(config: Path) -> None:
    """Write a Ceph user's key from Vault into the Secret that kubelet mounts CephFS with.

    The work of the chart's ceph-key Job.
    """
    from k8s_parsl.ceph_key import job as keys

    keys.in_pod(config)


def main() -> NoReturn:
    """Run a command, and end with an exit code of `errors.ExitCode`."""
    _open_closed()
    # PID 1 of a container gets no signal that it has no handler for. A run sets its own handlers
    # later. Python itself has one for SIGINT.
    handle_signals((number for number in STOPPING if number != signal.SIGINT), interrupt)
    to_stderr()
    code = _guarded()
    # Not sys.exit: threads of Parsl's or of the workflow's must not keep a finished launcher alive.
    os._exit(_flushed(code))


def _open_closed() -> None:
    """Open standard input, output and error where they are closed, as by `>&-` in a shell.

    The next file would get the number, and what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _flushed(code: int) -> int:
    """Write what is still to be written; return the exit code."""
    why = _output_fails()
    if why and not code:
        code = _no_output(why)
    with suppress(OSError):
        sys.stderr.flush()
    return code


def _no_output(why: str) -> int:
    said = f"standard output cannot be written: {why}"
    return errors.last_word(said, errors.ExitCode.WORKFLOW)


def _output_fails(more: str = "") -> str:
    """Return why standard output cannot be written; empty if it can, or if its reader has ended."""
    try:
        sys.stdout.write(more)
        sys.stdout.flush()
    except BrokenPipeError:
        return ""
    except OSError as error:
        return str(error.strerror)
    return ""


def _guarded() -> int:
    try:
        # The exit code of --help and `check` comes back as a value.
        return commands(standalone_mode=False) or errors.ExitCode.DONE
    except errors.Failure as failure:
        return errors.last_word(str(failure), failure.exit_code)
    except click.exceptions.NoArgsIsHelpError as without_command:
        without_command.show()
        return errors.ExitCode.USAGE
    except click.ClickException as error:
        return errors.last_word(
            f"{error.format_message()} (k8s-parsl --help)", errors.ExitCode.USAGE
        )
    except Interrupted as interrupted:
        return errors.last_word(str(interrupted.stopped), errors.ExitCode.STOPPED)
    except (click.Abort, KeyboardInterrupt):
        return errors.last_word("stopped from the keyboard", errors.ExitCode.STOPPED)
    except BrokenPipeError:
        # `k8s-parsl runs | head -1` has what it wants.
        return errors.ExitCode.WORKFLOW
    except Exception as error:
        # What could not be written is gone from Python's buffer, so it is asked with a new line.
        why = _output_fails("\n") if isinstance(error, OSError) else ""
        if why:
            return _no_output(why)
        logging.getLogger("k8s_parsl").exception("this should not happen; please report it")
        return errors.last_word(
            errors.one_line(f"internal error: {type(error).__name__}: {error}"),
            errors.ExitCode.INTERNAL,
        )


if __name__ == "__main__":
    main()
