{{- /*
What tells the pods of this release: the only labels in a pod template, so that no chart version changes it. The name as
the launcher looks for it (launcher/k8s_parsl/identity.py), also where this chart is a part of another, by another name.
*/ -}}
{{- define "k8s-parsl.selectorLabels" -}}
app.kubernetes.io/name: k8s-parsl
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- /* Labels of every object. https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/ */ -}}
{{- define "k8s-parsl.labels" -}}
{{ include "k8s-parsl.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ .Chart.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- /* Those of them that are the same in a newer chart. */ -}}
{{- define "k8s-parsl.fixedLabels" -}}
{{- omit (include "k8s-parsl.labels" . | fromYaml) "app.kubernetes.io/version" "helm.sh/chart" | toYaml -}}
{{- end -}}

{{- /* Labels of a pod: the user's own, and over them those that launcher, NetworkPolicy and `kubectl -l` rely on. */ -}}
{{- define "k8s-parsl.podLabels" -}}
{{- $ours := include "k8s-parsl.selectorLabels" .root | fromYaml -}}
{{- $ours = set $ours "app.kubernetes.io/component" .component -}}
{{- mergeOverwrite (dict) (.pod.labels | default dict) $ours (.more | default dict) | include "k8s-parsl.yaml" -}}
{{- end -}}
