{{- /*
The values that the launcher reads: its part, without the keys that only the chart uses. launcher_part() in
launcher/k8s_parsl/config/ returns the same, with `laptop`; a test compares the two for each values file.
*/ -}}
{{- define "k8s-parsl.settings" -}}
{{- $executors := dict -}}
{{- range $label := include "k8s-parsl.executorLabels" . | fromJsonArray -}}
{{- $_ := set $executors $label (omit (index $.Values.executors $label) "pod") -}}
{{- end -}}
{{- /* Helm 3 keeps a null, and Helm 4 drops it: both have to name the same run. */ -}}
{{- $run := dict -}}
{{- range $key, $value := .Values.run -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $run $key $value }}{{ end -}}
{{- end -}}
{{- $values := pick .Values "parsl" "logging" "notify" "page" -}}
{{- $_ := set $values "run" $run -}}
{{- $_ := set $values "apps" (include "k8s-parsl.apps" . | fromJson) -}}
{{- $_ := set $values "metrics" (omit .Values.metrics "from" "annotations" "podMonitor") -}}
{{- $_ := set $values "workflow" (omit .Values.workflow "files") -}}
{{- $_ := set $values "executors" $executors -}}
{{- $_ := set $values "storage" (include "k8s-parsl.mountedStorage" . | fromJson) -}}
{{- toYaml $values -}}
{{- end -}}

{{- /* `apps` without its nulls, as JSON. */ -}}
{{- define "k8s-parsl.apps" -}}
{{- $apps := dict -}}
{{- range $name, $limits := .Values.apps -}}
{{- if not (kindIs "invalid" $limits) -}}
{{- $given := dict -}}
{{- range $key, $value := $limits -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $given $key $value }}{{ end -}}
{{- end -}}
{{- $_ := set $apps $name $given -}}
{{- end -}}
{{- end -}}
{{- toJson $apps -}}
{{- end -}}

{{- /* By key of `storage`, what the launcher needs to know about a volume, as JSON. */ -}}
{{- define "k8s-parsl.mountedStorage" -}}
{{- $mounted := dict -}}
{{- range $key, $volume := .Values.storage -}}
{{- with $volume -}}
{{- $_ := set $mounted $key (pick . "mountPath" "readOnly") -}}
{{- end -}}
{{- end -}}
{{- toJson $mounted -}}
{{- end -}}

{{- /* The files of the settings ConfigMap. Its name ends in their hash, so a changed setting starts a new run. */ -}}
{{- define "k8s-parsl.settingsData" -}}
{{- $certificates := include "k8s-parsl.certificatesName" . -}}
settings.yaml: |
  {{- include "k8s-parsl.settings" . | nindent 2 }}
{{- range $label := include "k8s-parsl.executorLabels" . | fromJsonArray }}
{{- $context := dict "root" $ "label" $label "certificates" $certificates }}
worker-{{ $label }}.yaml: |
  {{- include "k8s-parsl.workerManifest" $context | nindent 2 }}
{{- end }}
{{- end -}}
