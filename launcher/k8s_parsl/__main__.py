"""The command line: `k8s-parsl run`, `worker`, `checkout`, `ceph-key`, `check`.

Whatever happens, the last line says what it was, and so does the pod's termination message.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
from rich.logging import RichHandler

from k8s_parsl import __version__, errors
from k8s_parsl.progress import CONSOLE


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="k8s-parsl")
def commands() -> None:
    """Run a Parsl workflow in Kubernetes, or on this machine, from one values file."""


@commands.command()
@click.option(
    "-f", "--values", type=click.Path(path_type=Path), multiple=True, help="Values file; a later one wins. On a laptop."
)
@click.option(
    "--path", type=click.Path(path_type=Path), help="Folder of the workflow's code, instead of workflow.path."
)
@click.option(
    "--volumes",
    type=click.Path(path_type=Path),
    default=Path("local"),
    show_default=True,
    help="Folder that holds a folder for each volume.",
)
def run(values: tuple[Path, ...], path: Path | None, volumes: Path) -> None:
    """Run the workflow: of the mounted settings in the chart's pod, of values files (-f) on a laptop."""
    from k8s_parsl import run as runs

    if values:
        runs.on_laptop(list(values), path, volumes)
    else:
        runs.in_pod(dict(os.environ))


@commands.command(context_settings={"ignore_unknown_options": True})
@click.option("--expect", required=True, help="Versions of the launcher, as py3.11/parsl2026.10.26.")
@click.option("--init", "worker_init", default="", help="Shell lines to run first.")
@click.option("--mounts", default="", help="Volumes that have to answer first: /path[:ro],...")
@click.option("--grace", type=float, default=30.0, help="Seconds between the pod's SIGTERM and its SIGKILL.")
@click.argument("pool", nargs=-1, type=click.UNPROCESSED)
def worker(expect: str, worker_init: str, mounts: str, grace: float, pool: tuple[str, ...]) -> None:
    """Run Parsl's worker pool; the launcher's worker pods call it."""
    from k8s_parsl import worker as workers

    if worker_init:
        workers.initialised(worker_init, ["--expect", expect, "--mounts", mounts, "--grace", str(grace), "--", *pool])
    workers.check_versions(expect)
    workers.check_mounts(mounts)
    workers.work(pool, grace, mounts)


@commands.command()
@click.argument("release", default="")
@click.option("-f", "--values", multiple=True, help="Values file, as for helm install: what would be missing for it?")
@click.option("--set", "sets", multiple=True, help="One value, as for helm install.")
@click.option("--chart", default="chart", show_default=True, help="The chart, as for helm install.")
@click.option("-n", "--namespace", default="", help="The release's namespace; else that of the kubeconfig's context.")
def check(release: str, values: tuple[str, ...], sets: tuple[str, ...], chart: str, namespace: str) -> None:
    """Say what RELEASE would need (with -f) or waits for, and what to change or to ask for. Changes nothing.

    With the kubeconfig of whoever asks, or in a launcher's pod; -f needs helm on PATH.
    """
    from k8s_parsl import check as checks

    bad = total = 0
    try:
        for line in checks.lines(dict(os.environ), release, namespace, values, sets, chart):
            click.echo(line)
            bad, total = bad + (not line.fine), total + 1
        if bad:
            raise errors.ConfigurationError(f"{bad} of {total} lines above need something")
    except errors.Failure as failure:
        # By `kubectl exec` it runs beside a launcher, whose termination message is not ours to write.
        click.echo(f"k8s-parsl: {failure}", err=True)
        raise click.exceptions.Exit(int(failure.exit_code)) from None


@commands.command()
@click.option("--url", required=True, help="The repository, https:// or http://.")
@click.option("--commit", required=True, help="Full id of the commit.")
@click.option("--path", default="", help="Folder of the repository, instead of all of it.")
@click.option("--secret", default="", help="Where the credentials in the environment come from.")
@click.argument("folder", type=click.Path(path_type=Path))
def checkout(folder: Path, **git: str) -> None:
    """Put a commit's files into FOLDER; the first thing that is done in pods with `workflow.git`."""
    from k8s_parsl import checkout as checkouts
    from k8s_parsl.settings import Git

    logging.getLogger("k8s_parsl").setLevel("INFO")
    checkouts.checkout(Git.parse(git, "workflow.git"), folder, os.environ)


@commands.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("/etc/k8s-parsl/ceph-key.yaml"),
    show_default=True,
    help="Where the key is and which Secret it goes to.",
)
def ceph_key(config: Path) -> None:
    """Write a Ceph user's key from Vault into the Secret that kubelet mounts CephFS with."""
    from k8s_parsl import ceph_key as keys

    keys.in_pod(config)


def main() -> NoReturn:
    """Run a command, and end with an exit code of `errors.ExitCode`."""
    _log_to_stderr()
    code = _guarded()
    # Not sys.exit: threads of Parsl's or of the workflow's must not keep a finished launcher alive.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _guarded() -> int:
    try:
        # What --help and `check` exit with comes back as a value.
        return commands(standalone_mode=False) or errors.ExitCode.DONE
    except errors.Failure as failure:
        return _end(str(failure), failure.exit_code)
    except click.ClickException as error:
        return _end(f"{error.format_message()} (k8s-parsl --help)", errors.ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return _end("stopped from the keyboard", errors.ExitCode.STOPPED)
    except Exception as error:
        logging.getLogger("k8s_parsl").exception("this should not happen; please report it")
        return _end(errors.one_line(f"internal error: {type(error).__name__}: {error}"), errors.ExitCode.INTERNAL)


def _end(message: str, code: int) -> int:
    print(f"k8s-parsl: {message}", file=sys.stderr)  # noqa: T201 (the program's last word)
    errors.write_termination_message(message)
    return int(code)


def _log_to_stderr() -> None:
    """Plain lines with the time; on a terminal by rich, so that they do not tear the progress bar."""
    if CONSOLE.is_terminal:
        handler: logging.Handler = RichHandler(console=CONSOLE, show_path=False, show_level=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="%X"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(capture=True)


if __name__ == "__main__":
    main()
