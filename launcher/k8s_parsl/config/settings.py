"""What the user asked for: the part of the values file that the launcher reads.

The only home of the defaults of what it describes (docs/dev/architecture.md, "Values and
defaults"). In a pod it is read from the mounted ``settings.yaml``; on a laptop from the values
files themselves, merged the way Helm merges them. A setting that feeds an argument of Parsl's
carries that argument's name, in camelCase.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from k8s_parsl.config.helm_merge import merge
from k8s_parsl.config.helm_yaml import read_yaml
from k8s_parsl.config.model import Model
from k8s_parsl.config.names import SIZE, AbsolutePath, AppName, Label
from k8s_parsl.config.nearest import did_you_mean
from k8s_parsl_runtime.shared.errors import UsageError

# Parsl puts the names on the worker's command line as they are, with spaces between them: nothing
# that a shell or an option parser would read.
ACCELERATOR = r"^[A-Za-z0-9][-A-Za-z0-9_.,:/]*$"
AcceleratorName = Annotated[str, StringConstraints(pattern=ACCELERATOR)]
Accelerators = Annotated[
    Annotated[int, Field(ge=0)] | tuple[AcceleratorName, ...],
    WithJsonSchema(
        {
            "type": ["integer", "array"],
            "minimum": 0,
            "items": {"type": "string", "pattern": ACCELERATOR},
        },
    ),
]

Size = Annotated[str, StringConstraints(pattern=SIZE)]


class Run(Model):
    """One run of the workflow and where its record is kept."""

    id: str = Field(
        "",
        description="Any text. Change it to run the same workflow with the same values again.",
    )
    volume: str = Field(
        "",
        description="Key of the `storage` volume that keeps the runs "
        "(`<mountPath>/runs/<run>-<installation>/`: record, report, checkpoints, logs). Empty: "
        "the pod has them, and they are lost when the pod is deleted.",
    )
    resume_from: str = Field(
        "",
        max_length=253,
        description="Take over the results that an older run on `run.volume` has kept, where an "
        "app's source and the arguments are the same: `latest` (the release's latest run before "
        "this one, or on a laptop the workflow's), or a run's name. Empty: this run starts from "
        "the beginning.",
    )
    keep_runs: int | None = Field(
        None,
        ge=1,
        description="Keep so many of the release's latest runs on `run.volume`, the one that ends "
        "among them: at its end, a run removes the folders of older ones, with all that is in "
        "them. Empty: all are kept. On a laptop, those of the same workflow.",
    )
    keep_days: float | None = Field(
        None,
        gt=0,
        description="The same, by age: remove the release's runs that ended so many days ago or "
        "earlier. With both keys, a run goes that one of them removes.",
    )


GIT_URL = r"^(https?://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:%\[\]]+)(:[0-9]{1,5})?/[^\s?#@]+)?$"
GIT_URL_IS = "https://… or http://…, with no user name and no query in it"
COMMIT = r"^([0-9a-f]{40})?$"
COMMIT_IS = "a full commit id, 40 hex digits: a branch or a tag may move"


class Git(Model):
    """Where in a git repository the workflow's code is."""

    url: str = Field(
        "", description="The repository, `https://…` (or `http://…`), without a user name."
    )
    commit: str = Field(
        "",
        description="Full ID of the commit, 40 hex digits. No branch or tag: it could move "
        "between the start of two pods.",
    )
    path: str = Field(
        "",
        pattern=r"^(\.{0,2}[^./][^/]*(/\.{0,2}[^./][^/]*)*)?$",
        description="Only this folder of the repository is copied to `workflow.path`. Empty: the "
        "whole repository.",
    )
    secret: str = Field(
        "",
        pattern=r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$",
        max_length=253,
        description="For a private repository: a Secret in the release's namespace with "
        "the keys `username` and `password` (which may be a token), for example of type "
        "`kubernetes.io/basic-auth`.",
    )

    @model_validator(mode="after")
    def _one_commit(self) -> Self:
        if not re.fullmatch(GIT_URL, self.url):
            # The URL is not shown: it may hold a token.
            raise ValueError(f"url must be {GIT_URL_IS}")
        if not re.fullmatch(COMMIT, self.commit):
            raise ValueError(f"commit must be {COMMIT_IS}, not {self.commit!r}")
        if bool(self.url) != bool(self.commit):
            raise ValueError("url and commit go together")
        if not self.url and (self.path or self.secret):
            raise ValueError("path and secret go with url")
        return self

    @property
    def described(self) -> str:
        """The code in one text, for logs and the run's record; empty where it is not from git."""
        if not self.url:
            return ""
        folder = f", folder {self.path}" if self.path else ""
        return f"{self.url} at {self.commit}{folder}"


class Workflow(Model):
    """The user's code, and how it is called."""

    call: str = Field(
        "",
        pattern=r"^([A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*)?$",
        description="The function that k8s-parsl calls with `kwargs`, as `module:function`. Parsl "
        "is loaded before the module is imported.",
    )
    script: str = Field(
        "",
        description="A Python script instead of `call`: a path, relative to `path` or absolute. "
        "It may call `parsl.load` with a Config; k8s-parsl's Config replaces it.",
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the function, any YAML values."
    )
    args: tuple[str, ...] = Field(
        (), description="Command line arguments of the script, as strings: quote numbers."
    )
    path: AbsolutePath = Field(
        "/opt/workflow",
        description="Folder with the code, which is on PYTHONPATH of the workflow and its workers: "
        "in the image, filled from `files` or `git`, or on a volume.",
    )
    work_dir: str = Field(
        "",
        pattern=r"^(/[^:]*[^/:])?$",
        description="Working directory of the workflow and its tasks, the same path in every "
        "pod. Empty: `<mountPath of run.volume>/runs/<run>-<installation>/work`, or without "
        "`run.volume` a folder `/tmp/k8s-parsl/work` in each pod.",
    )
    failed_tasks: Literal["fail", "warn"] = Field(
        "fail",
        description="How a run ends if tasks fail and the workflow never asks for their results: "
        "`fail` (exit code 1) or `warn` (exit code 0). Its status is `done with failures` in both "
        "cases.",
    )
    git: Git = Field(default_factory=Git)

    @model_validator(mode="after")
    def _call_or_script(self) -> Self:
        if bool(self.call) == bool(self.script):
            raise ValueError("give exactly one of call (module:function) and script (a path)")
        if self.script and self.kwargs:
            raise ValueError("kwargs go with call; a script takes args")
        if self.call and self.args:
            raise ValueError("args go with script; a function takes kwargs")
        return self


class Executor(Model):
    """One HighThroughputExecutor of Parsl's: how many worker pods, and what runs in each."""

    init_blocks: int = Field(1, ge=0, description="Worker pods at the start.")
    min_blocks: int = Field(0, ge=0, description="Worker pods that stay when there are no tasks.")
    max_blocks: int = Field(1, ge=1, description="The largest number of worker pods.")
    parallelism: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Ratio of workers to waiting tasks, from 0 to 1. With 1, Parsl starts pods "
        "until each task has a worker (up to `maxBlocks`); with 0.5, a worker for two tasks.",
    )
    max_workers_per_node: int = Field(
        1,
        ge=1,
        description="The largest number of workers in each pod; each worker runs one task at a "
        "time. The pod's CPU limit (`coresPerWorker`), memory limit (`memPerWorker`) and GPUs "
        "(`availableAccelerators`) may allow fewer.",
    )
    cores_per_worker: float = Field(
        1.0,
        gt=0,
        description="CPUs for each worker. A pod has at most as many workers as its CPU limit "
        "allows.",
    )
    mem_per_worker: float | None = Field(
        None,
        gt=0,
        description="GiB of memory for each worker. A pod has at most as many workers as its "
        "memory limit allows.",
    )
    available_accelerators: Accelerators = Field(
        (),
        description="GPUs of each pod: their number or their names. Each worker gets one "
        "(`CUDA_VISIBLE_DEVICES` and similar variables). No more than `maxWorkersPerNode`; with "
        "fewer GPUs, there are only as many workers as GPUs.",
    )
    prefetch_capacity: int = Field(
        0,
        ge=0,
        description="Tasks that wait in a pod in addition to those that run there; useful only "
        "for short tasks.",
    )
    prefetch_short_tasks: bool = Field(
        True,
        description="Up to ten tasks for each worker wait in a pod, as long as no task of their "
        "apps takes longer than 0.05 s and they may run twice (`parsl.retryLostTasks`). A pod "
        "hands them back if no worker takes one for 0.5 s.",
    )
    heartbeat_period: int = Field(
        5,
        ge=1,
        description="Seconds between two heartbeats of the workflow, and of each worker pod.",
    )
    heartbeat_threshold: int = Field(
        30, ge=2, description="Seconds without a heartbeat after which a pod counts as lost."
    )
    worker_init: str = Field(
        "", description="Shell lines that each worker pod runs before its workers start."
    )
    worker_debug: bool = Field(False, description="Debug logs from the workers.")
    limit_threads: bool = Field(
        True,
        description="Set `OMP_NUM_THREADS` and similar variables (`OPENBLAS_`, `MKL_`, "
        "`NUMEXPR_` …) in each worker to its number of CPUs, unless the image or you set them.",
    )
    pending_timeout: float = Field(
        14400.0,
        gt=0,
        description="Seconds that a worker pod may be Pending, for example because no node has "
        "room, a quota is used up, or a Secret or volume is missing. Then the run ends with exit "
        "code 78.",
    )
    configuration_timeout: float = Field(
        120.0,
        gt=0,
        description="Seconds that a configuration error (an image that cannot be pulled, a "
        "missing PVC) may last, if no worker of the executor has ever started. Then the run ends "
        "with exit code 78.",
    )

    @model_validator(mode="after")
    def _blocks_in_order(self) -> Self:
        if self.min_blocks > self.max_blocks:
            raise ValueError(
                f"minBlocks ({self.min_blocks}) is more than maxBlocks ({self.max_blocks})"
            )
        if self.init_blocks > self.max_blocks:
            raise ValueError(
                f"initBlocks ({self.init_blocks}) is more than maxBlocks ({self.max_blocks})"
            )
        if self.heartbeat_threshold <= self.heartbeat_period:
            raise ValueError(
                f"heartbeatThreshold ({self.heartbeat_threshold}) is not more than "
                f"heartbeatPeriod ({self.heartbeat_period})"
            )
        return self

    @model_validator(mode="after")
    def _no_accelerator_idle(self) -> Self:
        given = self.available_accelerators
        number = given if isinstance(given, int) else len(given)
        if number > self.max_workers_per_node:
            raise ValueError(
                f"availableAccelerators ({number}) is more than "
                f"maxWorkersPerNode ({self.max_workers_per_node}): "
                "each worker has one, so the rest would be idle"
            )
        return self


class Monitoring(Model):
    """Parsl's own monitoring: an SQLite database of the tasks, in the run's folder."""

    enabled: bool = Field(
        False,
        description="Let Parsl write its monitoring database, `parsl/monitoring.db` in the run's "
        "folder. The workflow's image needs `parsl[monitoring]`. It makes short tasks much slower "
        "([what it costs](results.md#parsls-monitoring-database)).",
    )
    resource_monitoring_interval: float = Field(
        30.0,
        ge=0,
        description="Seconds between two measurements of a task's CPU and memory, for which Parsl "
        "starts one more process for each task. 0: no such process, only begin and end.",
    )


class Parsl(Model):
    """Arguments of Parsl's Config, and what all its executors share."""

    strategy: Literal["none", "simple", "htex_auto_scale"] = Field(
        "htex_auto_scale",
        description="How Parsl scales worker pods. `htex_auto_scale` ends each idle pod, `simple` "
        "ends pods only when no task runs, `none` neither adds nor ends pods.",
    )
    strategy_period: float = Field(
        1.0,
        gt=0,
        description="Seconds between two checks of how many worker pods the tasks need. They are "
        "also checked at once when a task waits for a worker pod.",
    )
    max_idletime: float = Field(
        120.0, ge=0, description="Seconds after which Parsl ends an idle worker pod."
    )
    retries: int = Field(0, ge=0, description="How often Parsl tries a failed task again.")
    loss_retries: int = Field(
        10,
        ge=0,
        description="How often a task runs again after the loss of its worker pod. This does not "
        "use up `retries`.",
    )
    retry_lost_tasks: Literal["cached", "all", "none"] | tuple[str, ...] = Field(
        "cached",
        description="Apps whose tasks may run again after the loss of their worker pod or the "
        "launcher, even if the task had begun: `cached` (apps with `cache=True` or `@makes`), "
        "`all`, `none`, or a list of the apps' names. Leave out apps that must not run twice, such "
        "as those that append to a file.",
    )
    max_pending: int = Field(
        50_000,
        ge=0,
        description="How many tasks may be pending (not ended) before the workflow waits when it "
        "calls an app, so that a loop of any length does not fill the memory of its container. "
        "Each takes about 10 KB there, and its arguments: half of it in the workflow's process, "
        "half in Parsl's interchange. 0: any number.",
    )
    cache: Literal["declared", "all", "none"] = Field(
        "declared",
        description="Apps whose results are kept on `run.volume` for the run's next launcher: "
        "`declared` (apps with `cache=True`), `all`, or `none` (then `cache=True` has no effect "
        "either). With `all`, two calls with the same arguments in one run still both run, and "
        "`retryLostTasks` decides as before which tasks may run twice.",
    )
    cache_key: Literal["arguments", "source"] = Field(
        "arguments",
        description="When a kept result stands for a call: if app name, module and arguments are "
        "the same (`arguments`), or if also the app's source is, with the functions and globals "
        "that it uses of your own modules (`source`). Comments and docstrings never count.",
    )
    checkpoint_delay: float = Field(
        1.0,
        ge=0,
        le=600,
        description="Seconds until a result that is kept is on the disk. If the launcher's node "
        "dies, the results of the last seconds are lost; if only its pod does, those of the last "
        "tenth of a second.",
    )
    encrypted: bool = Field(
        True, description="Encrypt the traffic between the workflow and its workers (CurveZMQ)."
    )
    worker_port: int = Field(
        # Linux gives 32768 to 60999 to outgoing connections, such as those to the API server:
        # https://docs.kernel.org/networking/ip-sysctl.html (ip_local_port_range)
        24000,
        ge=1024,
        le=65000,
        description="Port of the launcher's pod for the first executor; the next executors use "
        "the next ports. Avoid 32768 to 60999: an outgoing connection of that pod may use such a "
        "port.",
    )
    monitoring: Monitoring = Field(default_factory=Monitoring)


class AppLimits(Model):
    """Limits of the tasks of one app, by the name of its function (docs/user/apps.md)."""

    timeout: float | None = Field(
        None,
        gt=0,
        le=1e8,
        description="Seconds that a task may run. Then it is ended, with all processes that it has "
        "started, and has failed. If it has a `walltime` too, the smaller one counts.",
    )
    max_running: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="The largest number of tasks that run at once, in all worker pods together. "
        "The others wait in the workflow, and no worker pod is started for them.",
    )
    retries: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="How often a failed task is tried again. Empty: `parsl.retries`.",
    )
    retry_delay: float = Field(
        0.0,
        ge=0,
        le=604_800,
        description="Seconds before a failed task is tried again, at least. Each further time "
        "twice as long, up to 10 minutes (or `retryDelay`, if that is longer), and up to a quarter "
        "more at random.",
    )


class Volume(Model):
    """The part of `storage.<key>` that launcher and workflow read; the chart reads the rest."""

    mount_path: AbsolutePath = Field(
        description="Absolute path of the volume in the workflow and its workers."
    )
    read_only: bool = Field(False, description="Mount the volume read-only.")


class Logging(Model):
    """What the launcher logs and how often, and how much output a run keeps."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that the launcher logs."
    )
    progress_period: float = Field(
        10.0, gt=0, description="Seconds between two progress lines if there is no terminal."
    )
    keep_per_pod: Size = Field(
        "8Mi",
        description="How much of the output of a worker pod is kept on the run's volume, such as "
        "`64Mi`: half for its beginning, half for its end. The same holds for launcher and "
        "workflow.",
    )
    keep_per_run: Size = Field(
        "256Mi",
        description="How much output of all pods of a run is kept on its volume together.",
    )


# Below 1024 only root may listen, and no container of ours is root's.
ListenPort = Annotated[int, Field(ge=1024, le=65535)]


class Page(Model):
    """The run's page, on the loopback address of the launcher's pod or of a laptop.

    `kubectl port-forward` reaches it; nothing on the pod network does.
    """

    enabled: bool = Field(
        True,
        description="Serve the run's page, `/status.json` and `/metrics`, while it runs.",
    )
    port: ListenPort = Field(
        8080,
        description="Its port on 127.0.0.1. On a laptop, where no values file sets it: a free "
        "port, which the log names.",
    )


class Metrics(Model):
    """Metrics for Prometheus, on all addresses of the launcher's pod.

    On a laptop only the page has them (docs/admin/metrics.md).
    """

    enabled: bool = Field(
        False,
        description="Serve `/metrics`, and nothing else, on the pod network, and allow it in the "
        "NetworkPolicy.",
    )
    port: ListenPort = Field(9090, description="Port of the launcher's pod for `/metrics`.")


class Notify(Model):
    """Messages about a run, to chat, mail or a webhook (docs/user/notify.md)."""

    secret: str = Field(
        "",
        pattern=r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$",
        max_length=253,
        description="A Secret in the release's namespace with URLs of "
        "[apprise](https://appriseit.com), one a line: where the launcher sends messages about the "
        "run. Empty: it sends none. On a laptop the environment variable `K8S_PARSL_NOTIFY_URL` "
        "has the URLs.",
    )
    secret_key: str = Field(
        "url",
        pattern=r"^[-._a-zA-Z0-9]+$",
        max_length=253,
        description="The key of the Secret that has the URLs.",
    )
    when: tuple[Literal["end", "failure", "stall"], ...] = Field(
        ("end", "failure", "stall"),
        description="What the launcher sends a message about, each once for an attempt: `end` (the "
        "run has ended), `failure` (a first task has failed), `stall` (no task has ended for "
        "`stallAfter` seconds, though tasks are open).",
    )
    stall_after: float = Field(
        3600.0,
        gt=0,
        description="Seconds without the end of a task after which a run with open tasks stalls.",
    )


class Laptop(Model):
    """What `k8s-parsl run` uses on a laptop. The chart does not read it."""

    python: str = Field(
        "",
        description="Virtual environment, or its Python interpreter, in which the workflow runs. "
        "Empty: the environment of k8s-parsl itself.",
    )


class Settings(Model):
    """The whole of ``settings.yaml``."""

    run: Run = Field(default_factory=Run)
    workflow: Workflow
    executors: dict[Label, Executor] = Field(
        min_length=1, description="One HighThroughputExecutor for each label."
    )
    parsl: Parsl = Field(default_factory=Parsl)
    apps: dict[AppName, AppLimits] = Field(
        default_factory=dict, description="Limits by app, whose name is that of its function."
    )
    storage: dict[Label, Volume] = Field(default_factory=dict, description="Volumes by key.")
    logging: Logging = Field(default_factory=Logging)
    page: Page = Field(default_factory=Page)
    metrics: Metrics = Field(default_factory=Metrics)
    notify: Notify = Field(default_factory=Notify)
    laptop: Laptop = Field(default_factory=Laptop)

    @model_validator(mode="after")
    def _run_volume_fits(self) -> Self:
        key = self.run.volume
        if not key:
            return self
        if key not in self.storage:
            known = ", ".join(sorted(self.storage)) or "none"
            raise ValueError(f"run.volume: storage has no volume {key!r} (it has: {known})")
        if self.storage[key].read_only:
            raise ValueError(f"run.volume: storage.{key} is readOnly, so no run can be kept on it")
        return self

    @model_validator(mode="after")
    def _no_volume_in_another(self) -> Self:
        mounts = sorted(
            (PurePosixPath(volume.mount_path), key) for key, volume in self.storage.items()
        )
        for (outer, one), (inner, other) in itertools.pairwise(mounts):
            if inner.is_relative_to(outer):
                raise ValueError(
                    f"storage.{other}.mountPath: {inner} is inside storage.{one}.mountPath {outer}"
                )
        return self

    @model_validator(mode="after")
    def _pods_come(self) -> Self:
        if self.parsl.strategy != "none":
            return self
        for label, executor in sorted(self.executors.items()):
            if executor.init_blocks == 0:
                raise ValueError(
                    f"executors.{label}.initBlocks: with 0 and parsl.strategy none, no worker pod "
                    "would ever start"
                )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        taken = {
            self.parsl.worker_port + index: f"executors.{label}"
            for index, label in enumerate(sorted(self.executors))
        }
        for key, section in (("page", self.page), ("metrics", self.metrics)):
            if not section.enabled:
                continue
            if section.port in taken:
                raise ValueError(
                    f"{key}.port: {section.port} is the port of {taken[section.port]}: "
                    "choose another one"
                )
            taken[section.port] = key
        return self

    @classmethod
    def from_values(cls, paths: Iterable[Path]) -> Settings:
        """Return the settings of values files, as ``helm install -f ... -f ...`` merges them.

        Raises:
            DataError: no such file, or not YAML.
            UsageError: see `parse`.
        """
        files = list(paths)
        values: dict[str, Any] = {}
        empty: dict[str, None] = {}
        for path in files:
            given = read_yaml(path)
            values = merge(values, given)
            empty |= {key: None for key, value in given.items() if value is None}
        source = " + ".join(str(path) for path in files)
        for key in values:
            if key not in SECTIONS:
                raise UsageError(
                    f"{source}: {key}: there is no such key{did_you_mean(str(key), SECTIONS)}"
                )
        for key in empty:
            if key in _SECTIONS_WITH_DEFAULTS and key not in values:
                raise UsageError(
                    f"{source}: {key}: without the line `{key}:`, or with values: "
                    "null takes the defaults away"
                )
        return cls.parse(launcher_part(values), source, by_name=False)


# The keys of a values file. `values_schema` describes those that only the chart reads.
SECTIONS = (
    "image",
    "imagePullSecrets",
    "workflow",
    "run",
    "executors",
    "parsl",
    "apps",
    "storage",
    "logging",
    "page",
    "metrics",
    "notify",
    "laptop",
    "pod",
    "launcher",
    "worker",
    "job",
    "serviceAccount",
    "workerServiceAccount",
    "rbac",
    "networkPolicy",
    "admissionPolicy",
    "admin",
    "namespaced",
    "global",
)
# Helm removes the defaults of a section with nothing below it, which is null.
_SECTIONS_WITH_DEFAULTS = frozenset(SECTIONS) - {
    "workflow",
    "executors",
    "imagePullSecrets",
    "global",
}
# The sections that the launcher reads, apart from `executors` and `storage`.
_SECTIONS_READ = (
    "run",
    "workflow",
    "parsl",
    "apps",
    "logging",
    "notify",
    "page",
    "metrics",
    "laptop",
)
# Keys inside the launcher's own sections that only the chart reads; the template
# `k8s-parsl.settings` leaves out the same ones, and a test for each values file ties the two.
_CHARTS_OF_WORKFLOW = ("files",)
_CHARTS_OF_EXECUTOR = ("pod",)
_CHARTS_OF_METRICS = ("from", "annotations", "podMonitor")


def launcher_part(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a values file that `Settings` describes, without the chart's own keys.

    In a pod there is no `laptop`: the chart leaves it out.
    """
    part = _only(values, _SECTIONS_READ)
    if isinstance(part.get("workflow"), Mapping):
        part["workflow"] = _without(part["workflow"], _CHARTS_OF_WORKFLOW)
    if isinstance(part.get("metrics"), Mapping):
        part["metrics"] = _without(part["metrics"], _CHARTS_OF_METRICS)
    part["executors"] = _each(
        values.get("executors", {}), lambda executor: _without(executor, _CHARTS_OF_EXECUTOR)
    )
    volume_keys = [to_camel(name) for name in Volume.model_fields]
    part["storage"] = _each(values.get("storage", {}), lambda volume: _only(volume, volume_keys))
    return part


def _each(entries: Any, part: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    """Return ``part`` of each entry; one that is not a map stays, so that the model names it."""
    if not isinstance(entries, Mapping):
        return entries
    parts = dict(entries)
    for key, entry in entries.items():
        if isinstance(entry, Mapping):
            parts[key] = part(entry)
    return parts


def _only(mapping: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: mapping[key] for key in keys if key in mapping}


def _without(mapping: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}
