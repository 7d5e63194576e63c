"""examples/tiles with `-f values/dev.yaml`, and what becomes of a release that has run."""

from __future__ import annotations

import json

COMPARE = """
import json, pathlib, tempfile
import tiles
done = pathlib.Path("/mnt/k8s-dev-pdg/tiles")
alone = pathlib.Path(tempfile.mkdtemp())
serial = tiles.run_serial(str(alone), max_zoom=3)
def pixels(folder):
    import hashlib
    from PIL import Image
    return {
        str(path.relative_to(folder)): hashlib.sha256(Image.open(path).convert("RGBA").tobytes()).hexdigest()
        for path in folder.rglob("*.png")
    }
mine, theirs = pixels(done), pixels(alone)
record = next(pathlib.Path("/mnt/k8s-dev-pdg/runs").glob("*/record.json"))
print(json.dumps({
    "same": mine == theirs,
    "count": len(mine),
    "differ": sorted(set(mine) ^ set(theirs))[:5],
    "record": json.loads(record.read_text()),
    "report": record.with_name("report.html").stat().st_size,
    "serial": serial,
}, default=str))
"""


def test_a_release_from_install_to_its_second_installation(dev):
    """install, result, unchanged upgrade, new run.id, a Job made again, uninstall, install again."""
    # Install: the Job completes, and the tiles are those of a single process.
    dev.values += ["--set", "workflow.kwargs.max_zoom=3"]
    first = dev.install()
    assert dev.wait_for_end(first) == "Complete", dev.describe()
    log = dev.log(first)
    assert "picture: /mnt/k8s-dev-pdg/tiles/" in log
    assert "report: /mnt/k8s-dev-pdg/runs/" in log
    seen = json.loads(dev.python(COMPARE, claim="pdgrun-dev-0").splitlines()[-1])
    assert seen["same"], seen
    assert seen["count"] > 20
    assert seen["report"] > 10_000
    record = seen["record"]
    assert (record["status"], record["exit_code"], record["failures"]) == ("done", 0, [])
    assert record["result"]["landArea"] == seen["serial"]["landArea"]

    # Upgrade with unchanged values: the same Job, not run again.
    same = dev.upgrade()
    assert (same.name, same.metadata["uid"]) == (first.name, first.metadata["uid"])

    # The Job is deleted (TTL does that) and made again: it says that the run is done.
    dev.kubectl("delete", "job", first.name)
    again = dev.upgrade()
    assert again.name == first.name
    assert again.metadata["uid"] != first.metadata["uid"]
    assert dev.wait_for_end(again) == "Complete"
    assert "set run.id to run again" in dev.log(again)
    assert "tasks" not in dev.log(again)

    # A new run.id: one new Job, which runs.
    second = dev.upgrade("--set", "run.id=second")
    assert second.name != first.name
    assert [job.name for job in dev.jobs()] == [second.name]
    assert dev.wait_for_end(second) == "Complete", dev.describe()
    assert "0 failed" in dev.log(second)

    # Uninstall: nothing is left but the data.
    dev.uninstall()
    dev.wait_for_pods(lambda pods: not [name for name in pods if name.startswith("pdgrun")])
    left = dev.kubectl("get", "pod,secret,configmap,job,pvc", "-o", "name").split()
    assert [name for name in left if "pdgrun" in name] == []

    # Install again with the values of the first run: it runs again.
    third = dev.install()
    assert third.name == first.name
    assert dev.wait_for_end(third) == "Complete", dev.describe()
    assert "set run.id" not in dev.log(third)
    assert ", 0 failed" in dev.log(third)
