{{- /*
Two images: `image` runs the workflow and its tasks; `launcher.image`, k8s-parsl's own, runs everything that has
permissions. The first one needs the runtime, k8s-parsl's part in the user's container. A volume contains it, or the
user built `image` FROM ours.
*/ -}}

{{- /* The reference of `image`, which is the values' `image` or `launcher.image`. */ -}}
{{- define "k8s-parsl.reference" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "k8s-parsl.launcherImage" -}}
{{- include "k8s-parsl.reference" (dict "root" . "image" .Values.launcher.image) -}}
{{- end -}}

{{- /* The image of the user's container: the pod's own, `image`, or `launcher.image` where `image` names none. */ -}}
{{- define "k8s-parsl.userImage" -}}
{{- if .pod.image -}}
{{- .pod.image -}}
{{- else if .root.Values.image.repository -}}
{{- include "k8s-parsl.reference" (dict "root" .root "image" .root.Values.image) -}}
{{- else -}}
{{- include "k8s-parsl.launcherImage" .root -}}
{{- end -}}
{{- end -}}

{{- define "k8s-parsl.userPullPolicy" -}}
{{- if or .pod.image .root.Values.image.repository -}}
{{- .root.Values.image.pullPolicy -}}
{{- else -}}
{{- .root.Values.launcher.image.pullPolicy -}}
{{- end -}}
{{- end -}}

{{- /* How the runtime gets into a pod: launcher.runtimeVolume, or empty if the user's image has the runtime. */ -}}
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

{{- /* The runtime in the user's container, at the path that it has in our own image. */ -}}
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
