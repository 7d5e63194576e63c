"""What the user asked for: the part of the values file that the launcher reads.

The only home of the defaults of what it describes (docs/dev/architecture.md, "Values and
defaults"). In a pod it is read from the mounted ``settings.yaml``; on a laptop from the values
files themselves, merged the way Helm merges them. A setting that feeds an argument of Parsl's
carries that argument's name, in camelCase.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from k8s_parsl.config.nearest import did_you_mean, keys_at
from k8s_parsl_runtime.shared.errors import DataError, UsageError

# RFC 1123 label, short enough that a worker pod's name has room for some of the release's.
LABEL, LABEL_LENGTH = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", 30
LABEL_IS = (
    f"under a name of a-z, 0-9 and hyphens (not first, not last), at most {LABEL_LENGTH} characters"
)
Label = Annotated[str, StringConstraints(pattern=LABEL, max_length=LABEL_LENGTH)]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^:]*[^/:]$")]
# Parsl puts the names on the worker's command line as they are, with spaces between them: nothing
# that a shell or an option parser would read.
ACCELERATOR = r"^[A-Za-z0-9][-A-Za-z0-9_.,:/]*$"
# Keys, and numbers of a list, from the top.
Location = tuple[int | str, ...]
Accelerators = Annotated[
    Annotated[int, Field(ge=0)]
    | tuple[Annotated[str, StringConstraints(pattern=ACCELERATOR)], ...],
    WithJsonSchema(
        {
            "type": ["integer", "array"],
            "minimum": 0,
            "items": {"type": "string", "pattern": ACCELERATOR},
        },
    ),
]


# Python reads YAML and JSON with a frame or more for each level.
TOO_DEEP = "its values are nested too deeply (lists in lists, maps in maps): put such data into a file on a volume"
# What YAML reads as true or false where it stands without quotes.
BARE = {"true": "y, yes or on", "false": "n, no or off"}


class Model(BaseModel):
    """Frozen, strict (no "3" for 3), and a key it does not know is an error that names the key."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )

    @classmethod
    def parse(cls, data: Mapping[str, Any], source: str, *, by_name: bool = True) -> Self:
        """The model of ``data`` as YAML gives it.

        Args:
            data: what YAML gives.
            source: what it is of, for messages.
            by_name: take Python's names of the keys, too.

        Raises:
            UsageError: a key is unknown or missing, or a value is wrong; names ``source`` and the
            key. DataError: its values are nested too deeply.
        """
        try:
            # Through JSON, so that strict mode takes a YAML list for a tuple but still no "3" for a
            # 3.
            return cls.model_validate_json(json.dumps(data), by_alias=True, by_name=by_name)
        except ValidationError as error:
            faults = _faults(error.errors(), data)
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            location, first = faults[0][0], faults[0][1][0]
            if first["type"] == "json_invalid" and "recursion" in first["msg"]:
                raise DataError(f"{source}: {TOO_DEEP}") from None
            near = cls._nearest(location) if first["type"] == "extra_forbidden" else ""
            raise UsageError(
                f"{source}: {_key(location)}{_say(faults[0][1])}{near}{more}"
            ) from None
        except RecursionError:
            raise DataError(f"{source}: {TOO_DEEP}") from None
        except TypeError as error:
            raise UsageError(f"{source}: only plain YAML values are allowed: {error}") from None

    @classmethod
    def _nearest(cls, location: Location) -> str:
        *place, key = location
        return did_you_mean(str(key), keys_at(cls.model_json_schema(), place))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The model of a mounted YAML file.

        Raises:
            DataError: no such file, or not YAML.
            UsageError: see `parse`.
        """
        return cls.parse(read_yaml(path), str(path))


class Run(Model):
    """One run of the workflow and where its record is kept."""

    id: str = Field(
        "", description="Change it to run the same workflow with the same values once more."
    )
    volume: str = Field(
        "",
        description="Key of `storage` that keeps the runs (`<mountPath>/runs/<run>-<installation>/`: record, report, "
        "checkpoints, logs). Empty: they are in the pod and end with it.",
    )


GIT_URL, GIT_URL_IS = (
    r"^(https?://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:%\[\]]+)(:[0-9]{1,5})?/[^\s?#@]+)?$",
    "https://… or http://…, with no user name and no query in it",
)
COMMIT, COMMIT_IS = (
    r"^([0-9a-f]{40})?$",
    "a full commit id, 40 hex digits: a branch or a tag may move",
)


class Git(Model):
    """Where in a git repository the workflow's code is."""

    url: str = Field(
        "", description="The repository, `https://…` (or `http://…`), with no user name in it."
    )
    commit: str = Field(
        "",
        description="Full id of the commit, 40 hex digits; no branch or tag, which may move from one pod to the next.",
    )
    path: str = Field(
        "",
        pattern=r"^(\.{0,2}[^./][^/]*(/\.{0,2}[^./][^/]*)*)?$",
        description="Folder of the repository that is put into `workflow.path`. Empty: all of it.",
    )
    secret: str = Field(
        "",
        pattern=r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$",
        max_length=253,
        description="For a private repository: a Secret in the release's namespace with `username` and `password` "
        "(which may be a token), as type `kubernetes.io/basic-auth` has them.",
    )

    @model_validator(mode="after")
    def _one_commit(self) -> Self:
        for key, pattern, must in (("url", GIT_URL, GIT_URL_IS), ("commit", COMMIT, COMMIT_IS)):
            if not re.fullmatch(pattern, getattr(self, key)):
                # It may hold a token.
                given = "" if key == "url" else f", not {getattr(self, key)!r}"
                raise ValueError(f"{key} must be {must}{given}")
        if bool(self.url) != bool(self.commit):
            raise ValueError("url and commit go together")
        if not self.url and (self.path or self.secret):
            raise ValueError("path and secret go with url")
        return self

    @property
    def described(self) -> str:
        """The code in one text, for logs and the run's record; empty where it is not from git."""
        folder = f", folder {self.path}" if self.path else ""
        return f"{self.url} at {self.commit}{folder}" if self.url else ""


class Workflow(Model):
    """The user's code, and how it is called."""

    call: str = Field(
        "",
        pattern=r"^([A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*)?$",
        description="`module:function`; called with `kwargs`. Parsl is already loaded when it is called.",
    )
    script: str = Field(
        "",
        description="A plain script instead of `call`: a path, taken from `path` if relative. It may call "
        "`parsl.load` with a Config of its own: the chart's takes its place.",
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the function, any YAML values."
    )
    args: tuple[str, ...] = Field((), description="Command line arguments of the script.")
    path: AbsolutePath = Field(
        "/opt/workflow",
        description="Folder that is on PYTHONPATH of the workflow and its workers: baked into the image, filled from "
        "`files` or `git`, or on a volume.",
    )
    work_dir: str = Field(
        "",
        pattern=r"^(/[^:]*[^/:])?$",
        description="Working directory of the workflow and of its tasks; the same path in every pod. Empty: "
        "`<mountPath of run.volume>/runs/<run>-<installation>/work`, or `/tmp/k8s-parsl/work` of each pod where "
        "there is no `run.volume`.",
    )
    failed_tasks: Literal["fail", "warn"] = Field(
        "fail",
        description="What a run comes to whose tasks failed without the workflow asking for their results: `fail` "
        "(exit code 1) or `warn` (exit code 0). Its status is `done with failures` in either case.",
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
    min_blocks: int = Field(0, ge=0, description="Worker pods kept when there is nothing to do.")
    max_blocks: int = Field(1, ge=1, description="Worker pods at most.")
    parallelism: float = Field(
        1.0, ge=0, le=1, description="Worker pods wanted for each waiting task: 0 to 1."
    )
    max_workers_per_node: int = Field(
        1,
        ge=1,
        description="Worker processes in each pod (tasks at once), as far as its CPU limit (`coresPerWorker`), its "
        "memory limit (`memPerWorker`) and its GPUs (`availableAccelerators`) let there be so many.",
    )
    cores_per_worker: float = Field(
        1.0,
        gt=0,
        description="CPUs for each worker; with the pod's CPU limit it also bounds the workers in a pod.",
    )
    mem_per_worker: float | None = Field(
        None,
        gt=0,
        description="GiB for each worker; with the pod's memory limit it bounds the workers likewise.",
    )
    available_accelerators: Accelerators = Field(
        (),
        description="GPUs of each pod, one for each worker (`CUDA_VISIBLE_DEVICES` and its like): how many, or their "
        "names. Not more than `maxWorkersPerNode`; with fewer there are only as many workers.",
    )
    prefetch_capacity: int = Field(
        0, ge=0, description="Tasks queued in a pod ahead of need; only for short tasks."
    )
    heartbeat_period: int = Field(
        5, ge=1, description="Seconds between heartbeats of workflow and worker pods."
    )
    heartbeat_threshold: int = Field(
        30, ge=2, description="Seconds without a heartbeat after which a pod is lost."
    )
    worker_init: str = Field(
        "", description="Shell lines run in each worker pod before its workers start."
    )
    worker_debug: bool = Field(False, description="Debug logs from the workers.")
    limit_threads: bool = Field(
        True,
        description="Set `OMP_NUM_THREADS` and its like (`OPENBLAS_`, `MKL_`, `NUMEXPR_` …) to the CPUs of one worker "
        "in its processes, where nothing has set them.",
    )
    pending_timeout: float = Field(
        14400.0,
        gt=0,
        description="Seconds that a worker pod may wait for room, quota, a Secret or a volume.",
    )
    configuration_timeout: float = Field(
        120.0,
        gt=0,
        description="Seconds that a configuration fault (image that cannot be pulled, missing claim) may last before "
        "the run ends with 78, as long as no worker has ever started.",
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
                f"availableAccelerators ({number}) is more than maxWorkersPerNode ({self.max_workers_per_node}): each "
                "worker has one, so the rest would be idle"
            )
        return self


class Parsl(Model):
    """Arguments of Parsl's Config, and what all its executors share."""

    strategy: Literal["none", "simple", "htex_auto_scale"] = Field(
        "htex_auto_scale", description="How Parsl scales worker pods."
    )
    strategy_period: float = Field(1.0, gt=0, description="Seconds between two looks at the load.")
    max_idletime: float = Field(
        120.0, ge=0, description="Seconds after which an idle worker pod is ended."
    )
    retries: int = Field(0, ge=0, description="Times that a failed task is tried again.")
    loss_retries: int = Field(
        10,
        ge=0,
        description="Times that a task whose worker pod was lost is run again; these use up no `retries`.",
    )
    retry_lost_tasks: Literal["cached", "all", "none"] | tuple[str, ...] = Field(
        "cached",
        description="Apps whose tasks may run twice, so run again after the loss of their worker pod or the launcher, "
        "perhaps in mid-task: `cached` (those with `cache=True`), `all`, `none`, or a list of apps. Leave out those "
        "that must not run twice, such as those that append to a file.",
    )
    encrypted: bool = Field(True, description="CurveZMQ between the workflow and its workers.")
    worker_port: int = Field(
        # Linux gives 32768 to 60999 to outgoing connections, such as the launcher's own to the API
        # server:
        # https://docs.kernel.org/networking/ip-sysctl.html (ip_local_port_range)
        24000,
        ge=1024,
        le=65000,
        description="Port of the launcher's pod for the first executor; the next ones follow on from it. From 32768 to "
        "60999 an outgoing connection of that pod may hold it.",
    )


class Volume(Model):
    """What launcher and workflow know of a volume; the rest of `storage.<key>` is the chart's."""

    mount_path: AbsolutePath = Field(
        description="Where it is mounted, in the workflow and its workers."
    )
    read_only: bool = Field(False, description="Mounted read-only.")


class Logging(Model):
    """What the launcher says and how often."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level that is shown."
    )
    progress_period: float = Field(
        10.0, gt=0, description="Seconds between progress lines where there is no terminal."
    )


class Laptop(Model):
    """What `k8s-parsl run` uses on a laptop. The chart does not read it."""

    python: str = Field(
        "",
        description="Python interpreter of the environment in which the workflow runs. Empty: the interpreter of "
        "k8s-parsl itself.",
    )


class Settings(Model):
    """The whole of ``settings.yaml``."""

    run: Run = Field(default_factory=Run)
    workflow: Workflow
    executors: dict[Label, Executor] = Field(
        min_length=1, description="One HighThroughputExecutor for each label."
    )
    parsl: Parsl = Field(default_factory=Parsl)
    storage: dict[Label, Volume] = Field(default_factory=dict, description="Volumes by key.")
    logging: Logging = Field(default_factory=Logging)
    laptop: Laptop = Field(default_factory=Laptop)

    @model_validator(mode="after")
    def _volumes_fit(self) -> Self:
        if self.run.volume and self.run.volume not in self.storage:
            known = ", ".join(sorted(self.storage)) or "none"
            raise ValueError(
                f"run.volume: storage has no volume {self.run.volume!r} (it has: {known})"
            )
        if self.run.volume and self.storage[self.run.volume].read_only:
            raise ValueError(
                f"run.volume: storage.{self.run.volume} is readOnly, so no run can be kept on it"
            )
        mounts = sorted(
            (PurePosixPath(volume.mount_path), key) for key, volume in self.storage.items()
        )
        for (outer, one), (inner, other) in itertools.pairwise(mounts):
            if inner.is_relative_to(outer):
                raise ValueError(
                    f"storage.{other}.mountPath: {inner} is inside storage.{one}.mountPath {outer}"
                )
        return self

    @classmethod
    def from_values(cls, paths: Iterable[Path]) -> Settings:
        """Settings from values files, the later ones winning, as ``helm install -f ... -f ...``
        would render them.

        Raises:
            DataError: no such file, or not YAML.
            UsageError: see `parse`.
        """
        files = list(paths)
        values: dict[str, Any] = {}
        for path in files:
            values = merge(values, read_yaml(path))
        source = " + ".join(str(path) for path in files)
        for key in values:
            if key not in SECTIONS:
                raise UsageError(
                    f"{source}: {key}: there is no such key{did_you_mean(str(key), SECTIONS)}"
                )
        return cls.parse(launcher_part(values), source, by_name=False)


class _Loader(yaml.SafeLoader):
    """YAML as Helm reads and writes it, so that a value means the same in a pod and on a laptop.

    PyYAML knows YAML 1.1 alone: 1e-07 would be a string, 1:30 the number 90, 2020-01-01 a date, an
    unquoted = an error. And a key given twice is a mistake that PyYAML would pass over.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own way)
        first: [
            (tag, regexp)
            for tag, regexp in resolvers
            if tag.rpartition(":")[2] in ("bool", "null", "merge")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}  # noqa: RUF012


# PyYAML leaves these two out.
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("[yYnN]$"), list("yYnN"))
_INT = re.compile(r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(_INT.pattern + "$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(_FLOAT.pattern + "$"), list("-+0123456789.")
)


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    digits = text.lstrip("+-")
    # 010 is 8, as in YAML 1.1 and in Go.
    octal = (
        len(digits) > 1
        and digits.isdigit()
        and digits.startswith("0")
        and not set(digits) & {"8", "9"}
    )
    return int(text, 8 if octal else 0) if not digits.isdigit() or octal else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
# Helm writes the string "<<" without quotes.
_Loader.add_constructor("tag:yaml.org,2002:merge", lambda _, node: node.value)


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if why := _no_key(key, key_node) or (key in seen and f"key {key!r} is given twice"):
            raise yaml.constructor.ConstructorError(None, None, why, key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _no_key(key: Any, node: yaml.Node) -> str:
    """Return what is wrong with a key that YAML reads as true, false or null; nothing else is."""
    if key is None:
        return "a key is empty, or null"
    if not isinstance(key, bool):
        return ""
    return (
        f'YAML reads the key {node.value} as {str(key).lower()}: write it in quotes, "{node.value}"'
    )


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; an empty file is an empty mapping.

    Raises:
        DataError: the file cannot be read, is not YAML, or holds something else than a mapping.
    """
    try:
        # utf-8-sig: an editor's byte order mark is no part of the first key.
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {error}") from None
    return yaml_mapping(text, str(path))


def yaml_mapping(text: str, source: str) -> dict[str, Any]:
    """The mapping that a YAML text holds; an empty text is an empty mapping.

    Raises:
        DataError: it is not YAML, or holds something else than a mapping; names ``source``.
    """
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise DataError(f"{source}: {line}{error.problem}") from None
    except yaml.YAMLError as error:
        raise DataError(f"{source}: {error}") from None
    except RecursionError:
        raise DataError(f"{source}: {TOO_DEEP}") from None
    except ValueError as error:
        # Of a number of thousands of digits, say, or of a tag such as !!float that does not fit.
        raise DataError(f"{source}: a value cannot be read: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise DataError(f"{source}: holds a {type(data).__name__} where a mapping is needed")
    return data


def merge(
    base: Mapping[str, Any], over: Mapping[str, Any], *, keep_null: bool = False
) -> dict[str, Any]:
    """``over`` laid on ``base`` as Helm does it: maps merge, all else is replaced, null takes a key
    away.

    Helm takes away only what the chart's own values have; so below `kwargs`, where they have nothing, null is a
    value like any other (``keep_null``).
    https://helm.sh/docs/chart_template_guide/values_files/#deleting-a-default-key
    """
    merged = dict(base)
    for key, value in over.items():
        if value is None and not keep_null:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(
                below if isinstance(below, Mapping) else {},
                value,
                keep_null=keep_null or key == "kwargs",
            )
        else:
            merged[key] = value
    return merged


# The keys of a values file; `Values` of `schema` has what is below those that are the chart's
# alone.
SECTIONS = (
    *(
        "image",
        "imagePullSecrets",
        "workflow",
        "run",
        "executors",
        "parsl",
        "storage",
        "logging",
        "laptop",
        "pod",
    ),
    *(
        "launcher",
        "worker",
        "job",
        "serviceAccount",
        "workerServiceAccount",
        "rbac",
        "networkPolicy",
    ),
    *("admissionPolicy", "admin", "namespaced", "global"),
)
# Keys inside the launcher's own sections that only the chart reads; the template
# `k8s-parsl.settings` leaves out the same ones, and a test for each values file ties the two.
CHART_ONLY = {"workflow": ("files",), "executors": ("pod",)}


def launcher_part(values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a values file that `Settings` describes, without the keys that are the chart's
    alone.

    In a pod there is no `laptop`: the chart leaves it out.
    """
    part = {
        key: values[key]
        for key in ("run", "workflow", "parsl", "logging", "laptop")
        if key in values
    }
    if isinstance(part.get("workflow"), Mapping):
        part["workflow"] = _without(part["workflow"], CHART_ONLY["workflow"])
    part["executors"] = _each(
        values.get("executors", {}), lambda executor: _without(executor, CHART_ONLY["executors"])
    )
    volume_keys = [to_camel(name) for name in Volume.model_fields]
    part["storage"] = _each(
        values.get("storage", {}),
        lambda volume: {name: volume[name] for name in volume_keys if name in volume},
    )
    return part


def _each(entries: Any, part: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    """``part`` of each entry; what is no mapping stays as it is, for the model to refuse by name."""
    if not isinstance(entries, Mapping):
        return entries
    return {
        key: part(entry) if isinstance(entry, Mapping) else entry for key, entry in entries.items()
    }


def _without(mapping: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def _faults(errors: Iterable[Any], data: Any) -> list[tuple[Location, list[Any]]]:
    """Return pydantic's errors by the place in the data that they are of.

    Where a value may be of several kinds, pydantic has an error for each of them, and the kind's
    name in its location. A kind that has got further than the others is the one that was meant;
    where none has, all are.
    """
    unions: dict[Location, list[Any]] = {}
    for error in errors:
        unions.setdefault(_place(error, data, whole=False), []).append(error)
    faults: list[tuple[Location, list[Any]]] = []
    for start, of_one in unions.items():
        places: dict[Location, list[Any]] = {}
        for error in of_one:
            places.setdefault(_place(error, data), []).append(error)
        if len(places) > 1:
            places.pop(start, None)
        faults += places.items()
    return faults


def _place(error: Any, data: Any, *, whole: bool = True) -> Location:
    """Return the location of an error without the names of kinds; up to the first of these, where
    not ``whole``.
    """
    place = []
    for number, part in enumerate(error["loc"], 1):
        lacking = error["type"] == "missing" and number == len(error["loc"])
        below = _below(data, part)
        if below is None and not lacking and part != "[key]":
            if not whole:
                break
            continue
        place.append(part)
        data = below[0] if below else None
    return tuple(place)


def _below(data: Any, part: int | str) -> tuple[Any] | None:
    """Return what the data has under a key or a number, in a tuple of its own."""
    if isinstance(data, Mapping):
        # JSON's keys are texts, whatever YAML has read.
        return next(((value,) for key, value in data.items() if str(key) == part), None)
    if isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
        return (data[part],)
    return None


def _key(location: Location) -> str:
    path = ".".join(str(part) for part in location if part != "[key]")
    return f"{path}: " if path else ""


def _say(errors: list[Any]) -> str:
    """Say in the user's words what is wrong with one value: an error of pydantic's for each kind
    that it may be of.
    """
    error = errors[0]
    match error["type"]:
        case "extra_forbidden":
            return "there is no such key"
        case "missing":
            return "is needed"
        case "json_invalid":
            # What json.dumps writes is JSON, but for this one thing; the values themselves are not
            # shown.
            return "a text has half of a pair of characters in it (\\ud800 to \\udfff)"
        case "string_pattern_mismatch" | "string_too_long" if error["loc"][-1] == "[key]":
            return f"must be {LABEL_IS}"
        case "string_type" if isinstance(error["input"], bool) and len(errors) == 1:
            truth = str(error["input"]).lower()
            return f"should be text, in quotes, not {truth} (as YAML reads {BARE[truth]} without quotes)"
        case "value_error":
            return str(error["ctx"]["error"])
        case "too_short":
            return "at least one is needed, such as workers: {}"
        case "string_pattern_mismatch" if error["loc"][-1] == "call":
            return f"is not module:function: {error['input']!r}{_call_instead(error['input'])}"
        case _:
            first, *others = dict.fromkeys(map(_wanted, errors))
            alternatives = "".join(
                f", or {other.removeprefix('input ').removeprefix('should be ')}"
                for other in others
            )
            return f"{first}{alternatives}, not {error['input']!r}"


def _wanted(error: Any) -> str:
    # Pydantic has JSON's words for these, and a file of values is YAML.
    return _SHAPES.get(error["type"], f"{error['msg'][0].lower()}{error['msg'][1:]}")


def _call_instead(call: str) -> str:
    """Return what to write for a file's name where a module's belongs."""
    file, colon, function = call.partition(":")
    if not file.endswith(".py"):
        return ""
    module = file.removesuffix(".py").removeprefix("./").replace("/", ".")
    return (
        f"; leave out .py: {module}:{function}"
        if colon
        else "; a script's path goes into workflow.script"
    )


_SHAPES = {
    **dict.fromkeys(("dict_type", "model_type"), "should be a map, that is lines of `key: value`"),
    "string_type": "should be text, in quotes",
    "tuple_type": "should be a list, that is lines of `- value`",
}
