{{- /*
How many workers each pod of an executor has, as JSON: `number`, and `why` where that is less than `maxWorkersPerNode`. For
the one who installs; the launcher reckons alike (launcher/k8s_parsl/config/workers.py), and a test ties the two.
*/ -}}
{{- define "k8s-parsl.workers" -}}
{{- $executor := index .root.Values.executors .label -}}
{{- $limits := dig "resources" "limits" dict (include "k8s-parsl.workerPod" . | fromJson) | default dict -}}
{{- $where := printf "executors.%s.pod.resources.limits" .label -}}
{{- $most := $executor.maxWorkersPerNode | default 1 | int64 -}}
{{- $bounds := list (dict "number" $most "why" "") -}}
{{- with include "k8s-parsl.amount" (get $limits "cpu") | float64 -}}
{{- $each := $executor.coresPerWorker | default 1 -}}
{{- /* A part of a CPU is still one worker's worth. */ -}}
{{- $fit := include "k8s-parsl.fit" (list (ceil . | mulf 1e9) (mulf $each 1e9)) | int64 -}}
{{- $bounds = append $bounds (dict "number" $fit "why" (printf "%s.cpu is %s, coresPerWorker %s" $where (include "k8s-parsl.said" $limits.cpu) (include "k8s-parsl.said" $each))) -}}
{{- end -}}
{{- with and $executor.memPerWorker (include "k8s-parsl.amount" (get $limits "memory") | float64) -}}
{{- $each := $executor.memPerWorker -}}
{{- $fit := include "k8s-parsl.fit" (list (floor .) (mulf $each 1073741824)) | int64 -}}
{{- $bounds = append $bounds (dict "number" $fit "why" (printf "%s.memory is %s, memPerWorker %s (GiB)" $where (include "k8s-parsl.said" $limits.memory) (include "k8s-parsl.said" $each))) -}}
{{- end -}}
{{- with $executor.availableAccelerators -}}
{{- $named := . -}}
{{- if kindIs "slice" . -}}
{{- $named = len . -}}
{{- end -}}
{{- $bounds = append $bounds (dict "number" $named "why" (printf "availableAccelerators names %v" $named)) -}}
{{- if not (kindIs "slice" .) -}}
{{- $gpus := 0.0 -}}
{{- $asked := list -}}
{{- range $name, $amount := $limits -}}
{{- if hasSuffix "/gpu" $name -}}
{{- $gpus = addf $gpus (include "k8s-parsl.amount" $amount | float64) -}}
{{- $asked = append $asked (printf "%s is %s" $name (include "k8s-parsl.said" $amount)) -}}
{{- end -}}
{{- end -}}
{{- if $asked -}}
{{- $bounds = append $bounds (dict "number" (int64 $gpus) "why" (printf "%s: %s" $where (join ", " $asked))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $least := first $bounds -}}
{{- range $bounds -}}
{{- if lt (int64 .number) (int64 $least.number) -}}
{{- $least = . -}}
{{- end -}}
{{- end -}}
{{- with $least.why -}}
{{- $_ := set $least "why" (printf "%d (maxWorkersPerNode): %s" $most .) -}}
{{- end -}}
{{- toJson $least -}}
{{- end -}}

{{- /* (there, each): how often `each`, rounded, goes into what is there. No integers, which end at 9E. */ -}}
{{- define "k8s-parsl.fit" -}}
{{- divf (index . 0) (round (index . 1) 0 | maxf 1) | floor | minf 1e15 | int64 -}}
{{- end -}}

{{- /* A number or a quantity as it was written: Go itself says 8e+08 for 800000000. */ -}}
{{- define "k8s-parsl.said" -}}
{{- kindIs "string" . | ternary . (toJson .) -}}
{{- end -}}

{{- /* The number that a quantity of Kubernetes' stands for; 0 for none. */ -}}
{{- define "k8s-parsl.amount" -}}
{{- $factors := dict "" 1 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- $text := kindIs "invalid" . | ternary "0" (toString .) -}}
{{- $number := regexFind "^[0-9.]+([eE][+-]?[0-9]+)?" $text -}}
{{- mulf $number (get $factors (trimPrefix $number $text)) -}}
{{- end -}}
