{{- /* A map without its null entries, as JSON: `-f` files take an executor or a volume away by setting it to null. */ -}}
{{- define "k8s-parsl.entries" -}}
{{- $entries := dict -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $entries $key $value -}}
{{- end -}}
{{- end -}}
{{- toJson $entries -}}
{{- end -}}

{{- /*
What the launcher reads: its part of the values, without the keys that are the chart's alone. The same as
launcher_part() in launcher/k8s_parsl/config/, but for `laptop`; a test for each values file ties the two.
*/ -}}
{{- define "k8s-parsl.settings" -}}
{{- $executors := dict -}}
{{- range $label, $executor := include "k8s-parsl.entries" .Values.executors | fromJson -}}
{{- $_ := set $executors $label (omit $executor "pod") -}}
{{- end -}}
{{- $storage := dict -}}
{{- range $key, $volume := include "k8s-parsl.entries" .Values.storage | fromJson -}}
{{- $_ := set $storage $key (pick $volume "mountPath" "readOnly") -}}
{{- end -}}
{{- $workflow := omit .Values.workflow "files" -}}
{{- with .Values -}}
{{- toYaml (dict "run" .run "workflow" $workflow "executors" $executors "parsl" .parsl "storage" $storage "logging" .logging) -}}
{{- end -}}
{{- end -}}

{{- /* The files of the settings ConfigMap: its name carries their hash, so another setting is another run. */ -}}
{{- define "k8s-parsl.settingsData" -}}
settings.yaml: |
  {{- include "k8s-parsl.settings" . | nindent 2 }}
{{- range $label, $_ := include "k8s-parsl.entries" .Values.executors | fromJson }}
worker-{{ $label }}.yaml: |
  {{- include "k8s-parsl.workerManifest" (dict "root" $ "label" $label "certificates" (include "k8s-parsl.certificatesName" $)) | nindent 2 }}
{{- end }}
{{- end -}}
