{{- /* `pod`, and what is laid over it for one kind of pod. */ -}}

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

{{- /*
As toYaml writes it; entry by entry in JSON where a text has several lines, as the newlines at the end of one would depend
on those of the template around it.
*/ -}}
{{- define "k8s-parsl.yaml" -}}
{{- $yaml := toYaml . -}}
{{- if regexMatch "[|>][0-9]?[-+]?\n" $yaml -}}
{{- $lines := list -}}
{{- range $key, $value := . -}}
{{- $start := ternary "- " (printf "%s: " (toJson $key)) (kindIs "slice" $) -}}
{{- $lines = append $lines (printf "%s%s" $start (toJson $value)) -}}
{{- end -}}
{{- $yaml = join "\n" $lines -}}
{{- end -}}
{{- $yaml -}}
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
