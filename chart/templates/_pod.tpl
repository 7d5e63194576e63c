{{- /* What the launcher's pod and the workers' pods have in common, so that they cannot disagree. */ -}}

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
{{- with omit .pod "labels" "annotations" "image" "resources" "env" "envFrom" "volumeMounts" "containerSecurityContext" "initContainers" "containers" "volumes" "tolerations" }}
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
