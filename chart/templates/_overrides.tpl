{{- /* `pod`, and the values that override it for one kind of pod. */ -}}

{{- /*
One map merged from a list of maps, as JSON: each one overrides those before it. An fsGroup gets the policy
OnRootMismatch: without it, kubelet changes every file of every volume at each start of a pod.
*/ -}}
{{- define "k8s-parsl.merged" -}}
{{- $merged := dict -}}
{{- range . -}}
{{- $merged = include "k8s-parsl.override" (dict "base" $merged "with" .) | fromJson -}}
{{- end -}}
{{- with $merged.securityContext -}}
{{- if and .fsGroup (not .fsGroupChangePolicy) -}}
{{- $_ := set . "fsGroupChangePolicy" "OnRootMismatch" -}}
{{- end -}}
{{- end -}}
{{- toJson $merged -}}
{{- end -}}

{{- /*
`base` overridden with another map, as JSON: maps merge, lists are replaced, null removes a key (sprig's merge functions
keep the null). JSON and not YAML, as toYaml drops the last newline of a text.
*/ -}}
{{- define "k8s-parsl.override" -}}
{{- $merged := deepCopy .base -}}
{{- range $key, $value := .with -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $merged $key -}}
{{- else if kindIs "map" $value -}}
{{- $below := get $merged $key -}}
{{- if not (kindIs "map" $below) -}}
{{- $below = dict -}}
{{- end -}}
{{- $_ := set $merged $key (include "k8s-parsl.override" (dict "base" $below "with" $value) | fromJson) -}}
{{- else -}}
{{- $_ := set $merged $key $value -}}
{{- end -}}
{{- end -}}
{{- toJson $merged -}}
{{- end -}}

{{- /*
A map without its keys that are null, as JSON: a later `-f` file removes an executor or a volume with null.
*/ -}}
{{- define "k8s-parsl.withoutNulls" -}}
{{- include "k8s-parsl.override" (dict "base" dict "with" .) -}}
{{- end -}}

{{- /* The labels of the executors, sorted, as a JSON list. */ -}}
{{- define "k8s-parsl.executorLabels" -}}
{{- $labels := list -}}
{{- range $label, $executor := .Values.executors -}}
{{- if not (kindIs "invalid" $executor) -}}
{{- $labels = append $labels $label -}}
{{- end -}}
{{- end -}}
{{- toJson $labels -}}
{{- end -}}

{{- /*
As toYaml. Where a text has several lines, each entry is written as JSON instead: in YAML, the number of newlines at its
end would depend on the template around it.
*/ -}}
{{- define "k8s-parsl.yaml" -}}
{{- $yaml := toYaml . -}}
{{- $severalLines := regexMatch "[|>][0-9]?[-+]?\n" $yaml -}}
{{- if not $severalLines -}}
{{- $yaml -}}
{{- else -}}
{{- $lines := list -}}
{{- range $key, $value := . -}}
{{- $start := kindIs "slice" $ | ternary "- " (printf "%s: " (toJson $key)) -}}
{{- $lines = append $lines (printf "%s%s" $start (toJson $value)) -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end -}}
{{- end -}}
