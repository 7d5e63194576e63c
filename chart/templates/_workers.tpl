{{- /*
How many workers each pod of an executor has, as JSON: `number`, and `why` if it is less than maxWorkersPerNode.
NOTES and checks.yaml use it. The launcher computes the same (launcher/k8s_parsl/config/workers.py), and a test
compares the two.
*/ -}}
{{- define "k8s-parsl.workers" -}}
{{- $executor := index .root.Values.executors .label -}}
{{- $limits := dig "resources" "limits" dict (include "k8s-parsl.workerPod" . | fromJson) | default dict -}}
{{- $where := printf "executors.%s.pod.resources.limits" .label -}}
{{- $context := dict "executor" $executor "limits" $limits "where" $where -}}
{{- $most := $executor.maxWorkersPerNode | default 1 | int64 -}}
{{- $least := dict "number" $most "why" "" -}}
{{- range $bound := list "workersByCpu" "workersByMemory" "workersByAccelerators" "workersByGpus" -}}
{{- with include (printf "k8s-parsl.%s" $bound) $context -}}
{{- $number := . | regexFind "^[0-9]+" | int64 -}}
{{- if lt $number (int64 $least.number) -}}
{{- $why := regexReplaceAll "^[0-9]+ " . "" -}}
{{- $least = dict "number" $number "why" (printf "%d (maxWorkersPerNode): %s" $most $why) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $least -}}
{{- end -}}

{{- /*
The four bounds: `<number> <why>`, or nothing where the values set no bound. The context: `executor`, its `limits`, and
`where` these are in the values.
*/ -}}

{{- /* A part of a CPU counts as a whole one. */ -}}
{{- define "k8s-parsl.workersByCpu" -}}
{{- $cpus := include "k8s-parsl.amount" .limits.cpu | float64 -}}
{{- $each := .executor.coresPerWorker | default 1 -}}
{{- if $cpus -}}
{{- printf "%s %s.cpu is %s, coresPerWorker %s"
      (include "k8s-parsl.fit" (list (ceil $cpus | mulf 1e9) (mulf $each 1e9)))
      .where
      (include "k8s-parsl.said" .limits.cpu)
      (include "k8s-parsl.said" $each) -}}
{{- end -}}
{{- end -}}

{{- define "k8s-parsl.workersByMemory" -}}
{{- $bytes := include "k8s-parsl.amount" .limits.memory | float64 -}}
{{- $each := .executor.memPerWorker -}}
{{- if and $each $bytes -}}
{{- printf "%s %s.memory is %s, memPerWorker %s (GiB)"
      (include "k8s-parsl.fit" (list (floor $bytes) (mulf $each 1073741824)))
      .where
      (include "k8s-parsl.said" .limits.memory)
      (include "k8s-parsl.said" $each) -}}
{{- end -}}
{{- end -}}

{{- define "k8s-parsl.workersByAccelerators" -}}
{{- with .executor.availableAccelerators -}}
{{- $number := . -}}
{{- if kindIs "slice" . -}}
{{- $number = len . -}}
{{- end -}}
{{- printf "%d availableAccelerators names %v" (int64 $number) $number -}}
{{- end -}}
{{- end -}}

{{- /* The GPUs of the limits, where availableAccelerators is a number: a list names the devices itself. */ -}}
{{- define "k8s-parsl.workersByGpus" -}}
{{- $accelerators := .executor.availableAccelerators -}}
{{- if and $accelerators (not (kindIs "slice" $accelerators)) -}}
{{- $number := 0.0 -}}
{{- $limits := list -}}
{{- range $name, $amount := .limits -}}
{{- if hasSuffix "/gpu" $name -}}
{{- $number = addf $number (include "k8s-parsl.amount" $amount | float64) -}}
{{- $limits = append $limits (printf "%s is %s" $name (include "k8s-parsl.said" $amount)) -}}
{{- end -}}
{{- end -}}
{{- if $limits -}}
{{- printf "%d %s: %s" (int64 $number) .where (join ", " $limits) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* (amount, each): how often `each`, rounded, fits into the amount. Floats, as integers end at 9E. */ -}}
{{- define "k8s-parsl.fit" -}}
{{- divf (index . 0) (round (index . 1) 0 | maxf 1) | floor | minf 1e15 | int64 -}}
{{- end -}}

{{- /* A number or a quantity as it is in the values: Go itself writes 8e+08 for 800000000. */ -}}
{{- define "k8s-parsl.said" -}}
{{- kindIs "string" . | ternary . (toJson .) -}}
{{- end -}}

{{- /*
The number that a Kubernetes quantity stands for; 0 for none.
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
*/ -}}
{{- define "k8s-parsl.amount" -}}
{{- $decimal := dict "" 1 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 -}}
{{- $binary := dict
      "Ki" 1024
      "Mi" 1048576
      "Gi" 1073741824
      "Ti" 1099511627776
      "Pi" 1125899906842624
      "Ei" 1152921504606846976 -}}
{{- $text := kindIs "invalid" . | ternary "0" (toString .) -}}
{{- $number := regexFind "^[0-9.]+([eE][+-]?[0-9]+)?" $text -}}
{{- mulf $number (get (merge $decimal $binary) (trimPrefix $number $text)) -}}
{{- end -}}
