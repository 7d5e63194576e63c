"""Run benchmarks, show their figures, and publish them.

    PYTHONPATH=tests:benchmarks python -m bench [--only NAME]… [--size small|full] [--publish]
    PYTHONPATH=tests:benchmarks python -m bench --page

Each benchmark has a process for itself, as it may change what is global there. Exit code 1: one
failed, or was not published.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from bench import machine, page, store
from bench.entries import ENTRIES, SIZES, Entry
from bench.figures import Result


def _known(_context: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> list[str]:
    split = [name for words in names for name in words.replace(",", " ").split()]
    for name in split:
        if name not in ENTRIES:
            raise click.BadParameter(f"{name}: not one of {', '.join(ENTRIES)}")
    return split


@click.command(help=__doc__)
@click.option("--only", multiple=True, callback=_known, help="Names of benchmarks; all otherwise.")
@click.option("--size", type=click.Choice(SIZES), default=SIZES[0], show_default=True)
@click.option("--publish", is_flag=True, help="Write docs/performance.json and the page.")
@click.option(
    "--page", "only_page", is_flag=True, help="Write the page again, and measure nothing."
)
@click.option("--one", hidden=True, type=click.Choice(list(ENTRIES)))
@click.option("--to", hidden=True, type=click.Path(path_type=Path))
def main(
    only: list[str],
    size: str,
    publish: bool,  # noqa: FBT001
    only_page: bool,  # noqa: FBT001
    one: str | None,
    to: Path | None,
) -> None:
    if only_page:
        page.write(store.read())
        return
    if one and to:
        to.write_text(json.dumps(ENTRIES[one].run(size).as_json()))
        return
    os.environ[machine.MARKER] = str(os.getpid())
    busy = machine.busy_before()
    if busy and publish:
        raise click.ClickException(
            f"nothing is published from a busy machine: {busy}; end it, or leave out --publish"
        )
    if busy:
        click.echo(f"these figures cannot be published: {busy}")
    sys.exit(_all(_chosen(only), size, publish=publish))


def _chosen(only: list[str]) -> list[Entry]:
    """Return the benchmarks to run: without names, those that this machine can run."""
    from testbed import Testbed

    if Testbed().running():
        return [ENTRIES[name] for name in only or ENTRIES]
    lacking = [name for name in only if ENTRIES[name].needs_cluster]
    if lacking:
        raise click.ClickException(f"{lacking[0]}: needs the test cluster: make cluster")
    if only:
        return [ENTRIES[name] for name in only]
    without = [entry for entry in ENTRIES.values() if not entry.needs_cluster]
    left_out = [name for name, entry in ENTRIES.items() if entry.needs_cluster]
    click.echo(f"left out, as there is no test cluster: {', '.join(left_out)}")
    return without


def _all(entries: list[Entry], size: str, *, publish: bool) -> int:
    """Run benchmarks one after the other; return the exit code."""
    failed = False
    for entry in entries:
        click.echo(f"== {entry.name}: {entry.title}")
        run = _run(entry, size)
        if run is None:
            failed = True
            continue
        _show(run)
        if publish and not _publish(run):
            failed = True
    return 1 if failed else 0


def _run(entry: Entry, size: str) -> store.Run | None:
    with tempfile.TemporaryDirectory() as folder, machine.watched() as load:
        to = Path(folder, "result.json")
        words = ["--one", entry.name, "--size", size, "--to", str(to)]
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "bench", *words], check=False)  # noqa: S603
        if done.returncode != 0:
            click.echo(f"{entry.name}: failed with {done.returncode}", err=True)
            return None
        result = Result.of_json(json.loads(to.read_text()))
        return store.run_of(entry.name, size, time.monotonic() - began, load(), result)


def _publish(run: store.Run) -> bool:
    try:
        store.refuse(run)
    except store.NotPublishable as why:
        click.echo(f"not published: {why}", err=True)
        return False
    page.write(store.write([run]))
    return True


def _show(run: store.Run) -> None:
    for figure in run.result.figures:
        low, high = figure.spread
        goal = "" if figure.goal is None else f", goal {page.number(figure.goal)}"
        click.echo(
            f"  {figure.name}: {page.number(figure.median)} ({page.number(low)} to "
            f"{page.number(high)} of {len(figure.pairs)} pairs{goal})"
        )
    for table in run.result.tables:
        click.echo(f"  {table.title}:")
        for cells in (table.columns, *table.rows):
            click.echo("    " + " | ".join(page.cell(value) for value in cells))
    for note in run.result.notes:
        click.echo(f"  {note}")
    load = run.load
    click.echo(
        f"  load {load['before']} before, {load['after']} after; others used "
        f"{load['foreign_cpus']:.2f} CPUs"
    )


if __name__ == "__main__":
    main()
