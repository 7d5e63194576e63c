{{- /* What the launcher's pod and the workers' pods have in common, so that they cannot disagree. */ -}}

{{- /*
`over` laid on `base`: maps merge, lists are replaced, null takes a key away (sprig's merges keep the null). Templates
hand each other JSON, as toYaml cuts off the last newline, which may be a text's own.
*/ -}}
{{- define "k8s-parsl.laidOver" -}}
{{- $merged := deepCopy .base -}}
{{- range $key, $value := .over -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $merged $key -}}
{{- else if kindIs "map" $value -}}
{{- $below := get $merged $key -}}
{{- $below = ternary $below dict (kindIs "map" $below) -}}
{{- $_ := set $merged $key (include "k8s-parsl.laidOver" (dict "base" $below "over" $value) | fromJson) -}}
{{- else -}}
{{- $_ := set $merged $key $value -}}
{{- end -}}
{{- end -}}
{{- toJson $merged -}}
{{- end -}}

{{- /* The knobs of one kind of pod: each map of the list laid over those before it. */ -}}
{{- define "k8s-parsl.knobs" -}}
{{- $knobs := dict -}}
{{- range . -}}
{{- $knobs = include "k8s-parsl.laidOver" (dict "base" $knobs "over" .) | fromJson -}}
{{- end -}}
{{- /* With an fsGroup kubelet walks over every file at each pod's start, unless the root is right already. */ -}}
{{- if and (dig "securityContext" "fsGroup" nil $knobs) (not (dig "securityContext" "fsGroupChangePolicy" "" $knobs)) -}}
{{- $_ := set $knobs.securityContext "fsGroupChangePolicy" "OnRootMismatch" -}}
{{- end -}}
{{- toJson $knobs -}}
{{- end -}}

{{- define "k8s-parsl.image" -}}
{{- with .Values.image -}}
{{- .repository -}}
{{- if .digest -}}@{{ .digest }}{{- else -}}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{- /* PodSpec fields: what every pod has, then all that the knobs hold under a PodSpec's own names. */ -}}
{{- define "k8s-parsl.podFields" -}}
restartPolicy: Never
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with omit .pod "labels" "annotations" "image" "resources" "env" "envFrom" "volumeMounts" "containerSecurityContext" "containers" "volumes" "tolerations" }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Container fields, but for name, args and what else tells a launcher from a worker. */ -}}
{{- define "k8s-parsl.containerFields" -}}
image: {{ .pod.image | default (include "k8s-parsl.image" .root) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with .pod.containerSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Variables of every container of ours; one that the knobs give too is theirs. */ -}}
{{- define "k8s-parsl.env" -}}
{{- $given := list -}}
{{- range .pod.env -}}
{{- $given = append $given .name -}}
{{- end -}}
{{- if not (has "HOME" $given) }}
- name: HOME
  value: /tmp
{{- end }}
{{- if not (has "PYTHONPATH" $given) }}
- name: PYTHONPATH
  value: {{ .root.Values.workflow.path | quote }}
{{- end }}
{{- with .pod.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "k8s-parsl.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
- name: run
  mountPath: /run/k8s-parsl
{{- if .root.Values.workflow.files }}
- name: workflow
  mountPath: {{ .root.Values.workflow.path | quote }}
  readOnly: true
{{- end }}
{{- range $key, $volume := include "k8s-parsl.storage" .root | fromJson }}
- name: storage-{{ $key }}
  mountPath: {{ $volume.mountPath | quote }}
  {{- with $volume.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
  {{- if $volume.readOnly }}
  readOnly: true
  {{- end }}
{{- end }}
{{- with .pod.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "k8s-parsl.volumes" -}}
{{- /* The root file system is read-only: to write there are /tmp, the folder of the keys (in memory) and the volumes. */ -}}
- name: tmp
  emptyDir: {}
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- if .root.Values.workflow.files }}
- name: workflow
  configMap:
    name: {{ include "k8s-parsl.workflowName" .root }}
{{- end }}
{{- range $key, $volume := include "k8s-parsl.storage" .root | fromJson }}
- name: storage-{{ $key }}
  persistentVolumeClaim:
    claimName: {{ include "k8s-parsl.claimName" (dict "root" $.root "key" $key "volume" $volume) | quote }}
    {{- if $volume.readOnly }}
    readOnly: true
    {{- end }}
{{- end }}
{{- with .pod.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
