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
{{- with include "k8s-parsl.thousandths" (get $limits "cpu") | int64 -}}
{{- $each := $executor.coresPerWorker | default 1 -}}
{{- /* A part of a CPU is still one worker's worth. */ -}}
{{- $there := mul (divf . 1000 | ceil | int64) 1000 -}}
{{- $fit := div $there (max 1 (include "k8s-parsl.thousandths" $each | int64)) -}}
{{- $bounds = append $bounds (dict "number" $fit "why" (printf "%s.cpu is %v, coresPerWorker %v" $where $limits.cpu $each)) -}}
{{- end -}}
{{- with and $executor.memPerWorker (include "k8s-parsl.thousandths" (get $limits "memory") | int64) -}}
{{- $each := $executor.memPerWorker -}}
{{- $fit := div (div . 1000) (max 1 (round (mulf $each 1073741824) 0 | int64)) -}}
{{- $bounds = append $bounds (dict "number" $fit "why" (printf "%s.memory is %v, memPerWorker %v (GiB)" $where $limits.memory $each)) -}}
{{- end -}}
{{- with $executor.availableAccelerators -}}
{{- $named := . -}}
{{- if kindIs "slice" . -}}
{{- $named = len . -}}
{{- end -}}
{{- $bounds = append $bounds (dict "number" $named "why" (printf "availableAccelerators names %v" $named)) -}}
{{- if not (kindIs "slice" .) -}}
{{- $gpus := 0 -}}
{{- $asked := list -}}
{{- range $name, $amount := $limits -}}
{{- if hasSuffix "/gpu" $name -}}
{{- $gpus = add $gpus (div (include "k8s-parsl.thousandths" $amount | int64) 1000) -}}
{{- $asked = append $asked (printf "%s is %v" $name $amount) -}}
{{- end -}}
{{- end -}}
{{- if $asked -}}
{{- $bounds = append $bounds (dict "number" $gpus "why" (printf "%s: %s" $where (join ", " $asked))) -}}
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

{{- /* A quantity of Kubernetes', in thousandths; 0 for none. */ -}}
{{- define "k8s-parsl.thousandths" -}}
{{- $factors := dict "" 1000 "n" 1e-6 "u" 1e-3 "m" 1 "k" 1e6 "M" 1e9 "G" 1e12 "T" 1e15 "P" 1e18 "E" 1e21 "Ki" 1024000 "Mi" 1048576000 "Gi" 1073741824000 "Ti" 1099511627776000 "Pi" 1125899906842624000 -}}
{{- $text := kindIs "invalid" . | ternary "0" (toString .) -}}
{{- $number := regexFind "^[0-9.]+([eE][+-]?[0-9]+)?" $text -}}
{{- $factor := get $factors (trimPrefix $number $text) | default 1e21 -}}
{{- round (mulf $number $factor) 0 | int64 -}}
{{- end -}}
