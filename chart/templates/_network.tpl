{{- /* The parts that several NetworkPolicies share. */ -}}

{{- /* A label selector for the pods of one `component` of this `run` or of `helm test`, and of no other run. */ -}}
{{- define "k8s-parsl.podsOfRun" -}}
matchLabels:
  {{- include "k8s-parsl.selectorLabels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
matchExpressions:
  - {key: k8s-parsl/run, operator: In, values: [{{ .run | quote }}, test]}
{{- end -}}

{{- define "k8s-parsl.workerPorts" -}}
{{- range $index, $_ := include "k8s-parsl.executorLabels" . | fromJsonArray }}
- port: {{ add $.Values.parsl.workerPort $index }}
{{- end }}
{{- end -}}

{{- /*
To any address: on many clusters a cache on the node answers, and not the DNS pods. OpenShift's use port 5353.
*/ -}}
{{- define "k8s-parsl.egressToDns" -}}
- ports:
    {{- range $port := list 53 5353 }}
    - {port: {{ $port }}, protocol: UDP}
    - {port: {{ $port }}, protocol: TCP}
    {{- end }}
{{- end -}}

{{- /*
A policy sees the address behind the Service, which is a node's or a cloud provider's: no selector matches it.
*/ -}}
{{- define "k8s-parsl.egressToApiServer" -}}
{{- with .Values.networkPolicy.apiServer -}}
- ports:
    {{- range .ports }}
    - port: {{ . }}
    {{- end }}
  {{- with .cidrs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- /* The port of Vault or of a git server. A policy cannot name a host, so it allows the port to any address. */ -}}
{{- define "k8s-parsl.portOfUrl" -}}
{{- $host := regexFind "^https?://[^/]*" . -}}
{{- regexFind ":[0-9]+$" $host | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https:" .)) -}}
{{- end -}}
