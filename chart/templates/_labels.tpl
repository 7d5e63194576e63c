{{- /*
Labels that select the pods of this release. A pod template has no other labels of the chart, so no chart version
changes it. The launcher looks for this name (launcher/k8s_parsl/identity.py), also where the chart is a subchart with
an alias.
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

{{- /* The labels that a newer chart does not change. */ -}}
{{- define "k8s-parsl.fixedLabels" -}}
{{- omit (include "k8s-parsl.labels" . | fromYaml) "app.kubernetes.io/version" "helm.sh/chart" | toYaml -}}
{{- end -}}

{{- /* Labels of a pod: the user's, overridden by those that launcher, NetworkPolicy and `kubectl -l` rely on. */ -}}
{{- define "k8s-parsl.podLabels" -}}
{{- $ours := include "k8s-parsl.selectorLabels" .root | fromYaml -}}
{{- $_ := set $ours "app.kubernetes.io/component" .component -}}
{{- mergeOverwrite (dict) (.pod.labels | default dict) $ours (.more | default dict) | include "k8s-parsl.yaml" -}}
{{- end -}}
