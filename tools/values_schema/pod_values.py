"""What a values file says of pods: images, containers, and the fields of a PodSpec."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from k8s_parsl.config.model import Model
from values_schema.kubernetes_types import list_of, of_type, pod_spec_fields
from values_schema.texts import (
    JSON,
    Command,
    Digest,
    ImageName,
    Name,
    OptionalImageName,
    PodImage,
    Quantity,
    Tag,
)


class LauncherImage(Model):
    """k8s-parsl's own image."""

    repository: ImageName = Field(
        "k8s-parsl", description="Registry and name of k8s-parsl's own image."
    )
    tag: Tag = Field("", description="Empty: the chart's own version (appVersion). Not `latest`.")
    digest: Digest = Field("", description="`sha256:…`; overrides `tag`.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When kubelet pulls the image."
    )


class Image(LauncherImage):
    """The workflow's image, in which the workflow and its tasks run. It needs Python and Parsl."""

    repository: OptionalImageName = Field(
        "",
        description="Registry and name. Empty: `launcher.image`, k8s-parsl's own, "
        "which has Python and Parsl.",
    )
    runtime: Literal["inject", "included"] = Field(
        "inject",
        description="For this image and each `pod.image`. `inject`: k8s-parsl adds its runtime to "
        "every pod (`launcher.runtimeVolume`). `included`: you built these images FROM k8s-parsl's "
        "own image of this chart's version.",
    )
    python: Command = Field(
        "python3",
        description="Command of the Python interpreter that has Parsl, in this image and each "
        "`pod.image`.",
    )


class PullSecret(Model):
    """One Secret with the credentials of a registry."""

    name: Name = Field(description="Name of a Secret of type `kubernetes.io/dockerconfigjson`.")


class Resources(Model):
    """Requests and limits of a container."""

    requests: dict[str, Quantity | None] = Field(
        default_factory=dict, description="What the scheduler reserves."
    )
    limits: dict[str, Quantity | None] = Field(
        default_factory=dict,
        description="The most that the container may use. CPU and memory limits of worker pods "
        "also limit the number of workers in a pod.",
    )
    claims: Annotated[Any, list_of("ResourceClaim")] = Field(
        default_factory=list, description="Device claims (dynamic resource allocation)."
    )


def _add_pod_spec_fields(schema: JSON) -> None:
    schema["properties"] = schema["properties"] | {
        name: field for name, field in pod_spec_fields().items() if name not in schema["properties"]
    }


class Pod(Model):
    """PodSpec fields by their own names, and fields of the container that runs the user's code."""

    model_config = ConfigDict(json_schema_extra=_add_pod_spec_fields)

    image: PodImage | None = Field(
        None,
        description="Image of the user's container, instead of the top-level `image`: a full "
        "reference with a tag or a digest. Not `latest`.",
    )
    env: Annotated[Any, list_of("EnvVar")] = Field(
        default_factory=list, description="Environment variables of the user's container."
    )
    env_from: Annotated[Any, list_of("EnvFromSource")] = Field(
        default_factory=list,
        description="Secrets and ConfigMaps whose keys become environment variables.",
    )
    volumes: Annotated[Any, list_of("Volume")] = Field(
        default_factory=list,
        description="Volumes in addition to those of `storage` (named `storage-<key>`).",
    )
    volume_mounts: Annotated[Any, list_of("VolumeMount")] = Field(
        default_factory=list, description="Where the user's container mounts `volumes`."
    )
    shared_memory: Quantity | None = Field(
        None,
        description="Size of `/dev/shm` in the user's container, such as `1Gi`; without it a "
        "container has 64 MiB. Its contents count against `resources.limits.memory`.",
    )
    container_security_context: Annotated[Any, of_type("SecurityContext")] = Field(
        default_factory=dict,
        description="securityContext of the user's container; `securityContext` is the pod's. "
        "The one of `pod` also applies to k8s-parsl's own containers.",
    )
    labels: dict[str, str | None] = Field(
        default_factory=dict, description="Additional labels of the pod."
    )
    annotations: dict[str, str | None] = Field(
        default_factory=dict, description="Annotations of the pod."
    )
    init_containers: Annotated[Any, list_of("Container")] = Field(
        default_factory=list,
        description="Containers that run before the user's container. With "
        "`restartPolicy: Always` they are sidecars, which run beside it.",
    )
    containers: Annotated[Any, list_of("Container")] = Field(
        default_factory=list,
        description="Additional containers. The pod ends only when all of its containers have "
        "ended.",
    )


class OwnPod(Pod):
    """As `pod`, for one kind of pod, with the resources of its container; merged over `pod`."""

    resources: Resources = Field(
        default_factory=Resources,
        description="Requests and limits of the container that runs the user's code.",
    )
