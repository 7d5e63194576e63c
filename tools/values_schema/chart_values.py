"""All of a values file: the part that the launcher reads, and the part that only the chart reads.

The launcher's part is in `k8s_parsl.config.settings`. Only descriptions, defaults and JSON Schema
count here: no program reads a values file with these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from k8s_parsl.config.model import Model
from k8s_parsl.config.names import DEVICE_IS, AppName, Label
from k8s_parsl.config.settings import (
    ACCELERATOR,
    COMMIT,
    COMMIT_IS,
    GIT_URL,
    GIT_URL_IS,
    AppLimits,
    Executor,
    Git,
    Laptop,
    Logging,
    Metrics,
    Notify,
    Page,
    Parsl,
    Run,
    Workflow,
)
from values_schema.kubernetes_types import NETWORKING, list_of
from values_schema.pod_values import Image, LauncherImage, OwnPod, Pod, PullSecret
from values_schema.storage_values import ChartVolume
from values_schema.texts import (
    JSON,
    NO_KEYS,
    Cidr,
    DataKey,
    FileName,
    ImageReference,
    OptionalName,
    Quantity,
    Rule,
    rules_schema,
    text,
)

# A value of any kind, with all that is below it.
ANY_VALUE: JSON = {
    "properties": NO_KEYS,
    "additionalProperties": {"$ref": "#/$defs/AnyValue"},
    "items": {"$ref": "#/$defs/AnyValue"},
}
FREE_MAP: JSON = {
    "type": "object",
    "properties": NO_KEYS,
    "additionalProperties": {"$ref": "#/$defs/AnyValue"},
}
FreeMap = Annotated[dict[str, Any], WithJsonSchema(FREE_MAP)]


class ChartGit(Git):
    """A git repository with the user's code, at one commit."""

    url: Annotated[str, text(Rule(GIT_URL, GIT_URL_IS))] = Field(
        "", description=Git.model_fields["url"].description
    )
    commit: Annotated[str, text(Rule(COMMIT, COMMIT_IS))] = Field(
        "", description=Git.model_fields["commit"].description
    )


class ChartWorkflow(Workflow):
    """The user's code, how it gets into the pods and how it is called."""

    kwargs: FreeMap = Field(
        default_factory=dict, description=Workflow.model_fields["kwargs"].description
    )
    files: dict[FileName, str] = Field(
        default_factory=dict,
        description="Contents of files by file name, which a ConfigMap puts into `path` (at most "
        "about 500 KB in all). On the command line: "
        r"`--set-file 'workflow.files.product\.py=examples/product/product.py'`. "
        "Not together with `git`.",
    )
    git: ChartGit = Field(default_factory=ChartGit)


# As `Accelerators` of the settings, with words for a device's name.
ACCELERATORS: JSON = {
    "type": ["integer", "array"],
    "minimum": 0,
    "items": {
        "type": "string",
        **rules_schema(Rule(ACCELERATOR, DEVICE_IS)),
    },
}


class ChartExecutor(Executor):
    """One HighThroughputExecutor of Parsl, and the pods in which its workers run."""

    available_accelerators: Annotated[Any, WithJsonSchema(ACCELERATORS)] = Field(
        (), description=Executor.model_fields["available_accelerators"].description
    )
    pod: OwnPod = Field(
        default_factory=OwnPod,
        description="The same keys as `pod`, for the worker pods of this executor. They override "
        "`worker.pod`.",
    )


class ChartNotify(Notify):
    """Messages about a run, to chat, mail or a webhook (docs/user/notify.md)."""

    secret_key: DataKey = Field("url", description=Notify.model_fields["secret_key"].description)


LOST_TASKS = ("cached", "all", "none")
APPS: JSON = {
    "type": ["string", "array"],
    "items": {"type": "string"},
    "if": {"type": "string"},
    "then": {
        "if": {"enum": list(LOST_TASKS)},
        "else": {"const": f"{', '.join(LOST_TASKS)} or a list of apps"},
    },
}


class ChartParsl(Parsl):
    """Arguments of Parsl's Config, and what all its executors share."""

    retry_lost_tasks: Annotated[Any, WithJsonSchema(APPS)] = Field(
        "cached", description=Parsl.model_fields["retry_lost_tasks"].description
    )


# As the CRD has it: https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.Duration
DURATION = (
    r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"
)


class PodMonitor(Model):
    """A PodMonitor, by which the Prometheus Operator finds the launcher's pod."""

    enabled: bool = Field(
        False,
        description="Create it. The cluster needs the CRD `podmonitors.monitoring.coreos.com`, and "
        "you the permission.",
    )
    labels: dict[str, str | None] = Field(
        default_factory=dict,
        description="Its labels, by which a Prometheus selects PodMonitors.",
    )
    interval: Annotated[str, text(Rule(DURATION, "a duration such as 30s or 1m, or empty"))] = (
        Field("", description="How often Prometheus asks. Empty: as often as it asks others.")
    )


class ChartMetrics(Metrics):
    """Metrics for Prometheus, on all addresses of the launcher's pod.

    On a laptop only the page has them (docs/admin/metrics.md).
    """

    from_: Annotated[Any, list_of("NetworkPolicyPeer", NETWORKING)] = Field(
        (),
        alias="from",
        description="Who may ask, as `from` of a NetworkPolicy. Empty: any pod and any address.",
    )
    annotations: bool = Field(
        False,
        description="Annotate the launcher's pod with `prometheus.io/scrape`, `port` and `path`, "
        "which some Prometheus servers look for.",
    )
    pod_monitor: PodMonitor = Field(default_factory=PodMonitor)


class LauncherResources(Model):
    """Requests and limits of k8s-parsl's own containers: `launcher`, `runtime` and `checkout`."""

    requests: dict[str, Quantity | None] = Field(
        {"cpu": "100m", "memory": "128Mi"},
        description="What the scheduler reserves for each of k8s-parsl's own containers: "
        "`launcher`, `runtime` and `checkout`.",
    )
    limits: dict[str, Quantity | None] = Field(
        {"cpu": "1", "memory": "512Mi"},
        description="The most that each of these containers may use.",
    )


class Launcher(Model):
    """The container `launcher`, which has the permissions, and its pod.

    The container `workflow` is in the same pod.
    """

    image: LauncherImage = Field(default_factory=LauncherImage)
    resources: LauncherResources = Field(default_factory=LauncherResources)
    env: Annotated[Any, list_of("EnvVar")] = Field(
        default_factory=list,
        description="Environment variables of the container `launcher`. Those of `pod` and "
        "`launcher.pod` do not reach it.",
    )
    runtime_volume: Literal["copy", "image"] = Field(
        "copy",
        description="How `image.runtime: inject` adds k8s-parsl's runtime to a pod. `copy`: an "
        "init container copies it. `image`: kubelet mounts it from `launcher.image` (needs image "
        "volumes, so Kubernetes 1.33 or later).",
    )
    pod: OwnPod = Field(
        default_factory=OwnPod,
        description="The same keys as `pod`, for the launcher's pod. They override `pod`. "
        "`resources` apply to the container `workflow`.",
    )


class Worker(Model):
    """The worker pods of all executors."""

    toleration_seconds: int = Field(
        60, ge=0, description="Seconds that worker pods stay on a node that does not respond."
    )
    pod: OwnPod = Field(
        default_factory=OwnPod,
        description="The same keys as `pod`, for all worker pods. They override `pod`.",
    )


class Job(Model):
    """The Job of the launcher."""

    backoff_limit: int = Field(
        3,
        ge=0,
        description="How often the Job starts another launcher after one failed. A drained or "
        "evicted launcher does not count. 0 without `run.volume`.",
    )
    active_deadline_seconds: int | None = Field(
        None, ge=1, description="Seconds after which Kubernetes ends the run."
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        description="Seconds after which Kubernetes deletes the finished Job, with its logs. Do "
        "not set it with Argo CD (docs/admin/argo-cd.md).",
    )
    suspend: bool = Field(
        False, description="true pauses the run and deletes its pods; false resumes it."
    )
    retry_on_failure: bool = Field(
        False, description="Start a new launcher also after the workflow failed (exit code 1)."
    )
    annotations: dict[str, str | None] = Field(
        default_factory=dict, description="Annotations of the Job."
    )


class WorkerServiceAccount(Model):
    """The ServiceAccount of the worker pods. It has no permissions and no token."""

    create: bool = Field(True, description="Create it.")
    name: OptionalName = Field(
        "", description="Empty: `<release>-worker`, or `default` with `create: false`."
    )


class ServiceAccount(Model):
    """The ServiceAccount of the launcher's pod."""

    create: bool = Field(True, description="Create it.")
    name: OptionalName = Field(
        "", description="Empty: `<release>-launcher`, or `default` with `create: false`."
    )
    annotations: dict[str, str | None] = Field(
        default_factory=dict, description="Annotations of the ServiceAccount."
    )


class RBAC(Model):
    """The permissions of the launcher."""

    create: bool = Field(
        True, description="Create the Role, and the RoleBinding to the launcher's ServiceAccount."
    )
    events: bool = Field(
        True,
        description="The Role lets the launcher create Events, which `kubectl describe job` shows. "
        "Set it to false if you may not grant that permission.",
    )


Port = Annotated[int, Field(ge=1, le=65535)]


class ApiServer(Model):
    """Where the Kubernetes API server listens, as a NetworkPolicy sees it."""

    ports: tuple[Port, ...] = Field(
        (443, 6443), min_length=1, description="The ports on which the API server listens."
    )
    cidrs: tuple[Cidr, ...] = Field(
        (),
        description="The API server's addresses, such as `192.0.2.10/32`. Empty: any address.",
    )


class NetworkPolicy(Model):
    """Traffic to and from the pods, on clusters whose network enforces NetworkPolicies."""

    create: bool = Field(
        True,
        description="Create NetworkPolicies: only the workers of a run reach its launcher, and "
        "nothing reaches the workers.",
    )
    ingress: Annotated[Any, list_of("NetworkPolicyIngressRule", NETWORKING)] = Field(
        (), description="Additional rules for the launcher's pod and the worker pods."
    )
    restrict_egress: bool = Field(
        False,
        description="Restrict outgoing traffic to DNS, the API server (launcher), the launcher "
        "(workers) and `egress`.",
    )
    egress: Annotated[Any, list_of("NetworkPolicyEgressRule", NETWORKING)] = Field(
        (),
        description="Additional rules for the launcher's pod and the worker pods, with "
        "`restrictEgress`.",
    )
    api_server: ApiServer = Field(
        default_factory=ApiServer, description="The API server, with `restrictEgress`."
    )


class AdmissionPolicy(Model):
    """A further limit on what the launcher's ServiceAccount may create. Cluster-scoped."""

    create: bool = Field(
        False,
        description="Create a ValidatingAdmissionPolicy: the launcher may create worker pods of "
        "this release only (docs/admin/security.md).",
    )
    images: tuple[ImageReference, ...] = Field(
        (),
        description="Additional allowed images. Entries that end in `/`, `:` or `@` match as "
        "prefixes.",
    )


class Admin(Model):
    """The resources that only an administrator may create."""

    create: bool = Field(
        True,
        description="Create the PersistentVolumes, and the objects that write their node-stage "
        "Secrets. Set it to false if an administrator creates them.",
    )


class Namespaced(Model):
    """The resources that a user with permissions in one namespace creates."""

    create: bool = Field(
        True,
        description="Create all other resources. An administrator sets it to false if a user "
        "creates them.",
    )


class Values(Model):
    """All of a values file, in the order of chart/values.yaml."""

    image: Image = Field(default_factory=Image)
    image_pull_secrets: tuple[PullSecret, ...] = Field(
        (),
        description="Secrets with the credentials of private registries, as `[{name: my-secret}]`.",
    )
    workflow: ChartWorkflow
    run: Run = Field(default_factory=Run)
    executors: dict[Label, ChartExecutor | None] = Field(
        min_length=1,
        description="One HighThroughputExecutor of Parsl for each label. Apps name the label. The "
        "keys have the names of Parsl's arguments; a block is a worker pod. `pod` describes the "
        "worker pods.",
    )
    parsl: ChartParsl = Field(default_factory=ChartParsl)
    apps: dict[AppName, AppLimits | None] = Field(
        default_factory=dict,
        description="Limits of the tasks of an app, by the name of its function ([how](apps.md)).",
    )
    storage: dict[Label, ChartVolume | None] = Field(
        default_factory=dict,
        description="Volumes by key. Workflow and workers mount each at the same path; the "
        "launcher mounts only `run.volume`. The PVC has the name `<release>-<key>`. A good key is "
        "`<function>-<instance>`, for example `dev-0`.",
    )
    logging: Logging = Field(default_factory=Logging)
    page: Page = Field(default_factory=Page)
    metrics: ChartMetrics = Field(default_factory=ChartMetrics)
    notify: ChartNotify = Field(default_factory=ChartNotify)
    laptop: Laptop = Field(default_factory=Laptop)
    pod: Pod = Field(default_factory=Pod)
    launcher: Launcher = Field(default_factory=Launcher)
    worker: Worker = Field(default_factory=Worker)
    job: Job = Field(default_factory=Job)
    service_account: ServiceAccount = Field(default_factory=ServiceAccount)
    worker_service_account: WorkerServiceAccount = Field(default_factory=WorkerServiceAccount)
    rbac: RBAC = Field(default_factory=RBAC)
    network_policy: NetworkPolicy = Field(default_factory=NetworkPolicy)
    admission_policy: AdmissionPolicy = Field(default_factory=AdmissionPolicy)
    admin: Admin = Field(default_factory=Admin)
    namespaced: Namespaced = Field(default_factory=Namespaced)
    global_: dict[str, Any] = Field(
        default_factory=dict,
        alias="global",
        description="Helm passes it from a parent chart. k8s-parsl does not read it.",
    )
