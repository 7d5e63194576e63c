"""NOTES, beside what is kept in golden/notes: each sentence where it is true, and only there."""

from __future__ import annotations

import pytest

from chart.helm import MINIMAL

STATIC = {"mountPath": "/data", "persistentVolumeSource": {"nfs": {"server": "s", "path": "/"}}}
EXISTING = {"mountPath": "/data", "existingClaim": "c"}
HALF = {"admin": {"create": False}}


@pytest.fixture
def notes(each_helm, chart_of_notes):
    """Return a function that renders NOTES for the least values and more, in one line."""

    def say(*args, **over):
        rendered = each_helm.template(over=MINIMAL | over, chart=chart_of_notes, args=args)
        return " ".join(rendered.one("Notes")["text"].split())

    return say


def workflow(**more):
    return {"workflow": MINIMAL["workflow"] | more}


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (workflow(path="/data/code"), "volume data (/data/code)"),
        (workflow(path="/data"), "volume data (/data)"),
        (workflow(call="", script="/data/run.py"), "volume data (/data/run.py)"),
        (workflow(path="/database"), ""),
        (workflow(), ""),
        (workflow(path="/data/code", files={"a.py": ""}), ""),
    ],
)
def test_notes_warn_about_code_on_a_volume(notes, more, named):
    said = notes(**more, storage={"data": EXISTING})
    assert ("where Helm does not see a change" in said) == bool(named)
    assert named in said


@pytest.mark.parametrize(
    ("run_id", "following"), [("", "2"), ("first", "2"), ("2", "2-again"), ("'; rm -rf /; '", "2")]
)
def test_the_next_id_is_another_one_and_safe_in_a_shell(notes, run_id, following):
    """The number of the next revision: it was given to no revision of this release before."""
    assert f"--set-string run.id={following} " in notes(run={"id": run_id})


def test_notes_say_that_a_paused_release_is_paused(notes):
    assert "main is paused as Job" in notes(job={"suspend": True})
    assert "main runs as Job" in notes()


def test_an_upgrade_says_that_it_may_have_started_nothing(notes):
    said = "If this Job has ended before, nothing runs now"
    assert said in notes("--is-upgrade")
    assert said not in notes()


@pytest.mark.parametrize(
    ("volume", "half", "freed"),
    [
        (STATIC, HALF, True),
        (STATIC, {}, False),
        (EXISTING, HALF, False),
        (STATIC, {"namespaced": {"create": False}}, False),
    ],
)
def test_an_administrators_volumes_are_to_be_freed_before_the_next_install(
    notes, helm, volume, half, freed
):
    """Where they outlive the release, by the name that the administrator's part gave them."""
    storage = {"storage": {"data": volume}}
    said = notes(**storage, **half)
    assert ("WARNING: before the next install" in said) == freed
    if freed:
        made = helm.template(over=MINIMAL | storage).one("PersistentVolume")
        name = made["metadata"]["name"]
        assert f"kubectl patch persistentvolume {name} --type json" in said


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"volume": "data"}, "lost; results of apps with cache=True are kept"),
        ({}, "lost, and all results."),
    ],
)
def test_notes_say_that_an_upgrade_ends_a_run(notes, run, said):
    text = notes(storage={"data": EXISTING}, run=run)
    warning = "WARNING: an upgrade that changes the run stops the run in progress."
    assert f"{warning} Its running tasks are {said}" in text
