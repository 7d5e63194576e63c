{{- /*
Two images: the user's, in which workflow and tasks run, and ours, `launcher.image`, in which all runs that has rights. What
our side needs in the user's image is the runtime: a volume brings it, but where that image was built FROM ours.
*/ -}}

{{- /* The reference of `image` (the values' `image` or `launcher.image`). */ -}}
{{- define "k8s-parsl.reference" -}}
{{- .image.repository -}}
{{- if .image.digest -}}@{{ .image.digest }}{{- else -}}:{{ .image.tag | default .root.Chart.AppVersion }}{{- end -}}
{{- end -}}

{{- define "k8s-parsl.launcherImage" -}}
{{- include "k8s-parsl.reference" (dict "root" . "image" .Values.launcher.image) -}}
{{- end -}}

{{- /* Values of the user's image, as JSON: `image`, or `launcher.image` where that names none. */ -}}
{{- define "k8s-parsl.imageValues" -}}
{{- ternary .Values.image .Values.launcher.image (not (empty .Values.image.repository)) | toJson -}}
{{- end -}}

{{- /* The reference of a user's container: the pod's own `image`, or the values'. */ -}}
{{- define "k8s-parsl.userImage" -}}
{{- $image := include "k8s-parsl.imageValues" .root | fromJson -}}
{{- .pod.image | default (include "k8s-parsl.reference" (dict "root" .root "image" $image)) -}}
{{- end -}}

{{- define "k8s-parsl.userPullPolicy" -}}
{{- $image := include "k8s-parsl.imageValues" .root | fromJson -}}
{{- ternary .root.Values.image.pullPolicy $image.pullPolicy (not (empty .pod.image)) -}}
{{- end -}}

{{- /* How the runtime comes into a pod: as launcher.runtimeVolume says; empty: the user's image holds it. */ -}}
{{- define "k8s-parsl.runtimeBy" -}}
{{- $other := ne (include "k8s-parsl.userImage" .) (include "k8s-parsl.launcherImage" .root) -}}
{{- if and $other (eq .root.Values.image.runtime "inject") -}}
{{- .root.Values.launcher.runtimeVolume -}}
{{- end -}}
{{- end -}}

{{- /* The init container that copies the runtime out of our image. */ -}}
{{- define "k8s-parsl.runtimeContainer" -}}
- name: runtime
  command: [cp, -r, /opt/k8s-parsl-runtime/., /runtime/]
  {{- include "k8s-parsl.ourContainerFields" . | nindent 2 }}
  volumeMounts:
    - name: runtime
      mountPath: /runtime
{{- end -}}

{{- /* For the container in which the user's code runs: at the path at which our own image has the runtime. */ -}}
{{- define "k8s-parsl.runtimeMount" -}}
{{- with include "k8s-parsl.runtimeBy" . -}}
- name: runtime
  mountPath: /opt/k8s-parsl-runtime
  {{- if eq . "image" }}
  subPath: opt/k8s-parsl-runtime
  {{- end }}
  readOnly: true
{{- end -}}
{{- end -}}

{{- /* https://kubernetes.io/docs/concepts/storage/volumes/#image */ -}}
{{- define "k8s-parsl.runtimeVolume" -}}
{{- with include "k8s-parsl.runtimeBy" . -}}
- name: runtime
  {{- if eq . "image" }}
  image:
    reference: {{ include "k8s-parsl.launcherImage" $.root | quote }}
    pullPolicy: {{ $.root.Values.launcher.image.pullPolicy }}
  {{- else }}
  emptyDir:
    sizeLimit: 16Mi
  {{- end }}
{{- end -}}
{{- end -}}
