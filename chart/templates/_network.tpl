{{- /* What NetworkPolicies say more than once. */ -}}

{{- /* A label selector: the launcher, or the workers, of this `run` (or of `helm test`), and not of the one before. */ -}}
{{- define "k8s-parsl.podsOfRun" -}}
matchLabels:
  {{- include "k8s-parsl.selectorLabels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
matchExpressions:
  - {key: k8s-parsl/run, operator: In, values: [{{ .run | quote }}, test]}
{{- end -}}

{{- define "k8s-parsl.workerPorts" -}}
{{- range $index, $_ := include "k8s-parsl.entries" .Values.executors | fromJson | keys | sortAlpha }}
- port: {{ add $.Values.parsl.workerPort $index }}
{{- end }}
{{- end -}}

{{- /* Not to the cluster's DNS pods alone: many nodes answer from a cache of their own. OpenShift's listen on 5353. */ -}}
{{- define "k8s-parsl.egressToDns" -}}
- ports:
    {{- range $port := list 53 5353 }}
    - {port: {{ $port }}, protocol: UDP}
    - {port: {{ $port }}, protocol: TCP}
    {{- end }}
{{- end -}}

{{- /* Policies look at the address behind a Service, which is a node's or a cloud's: no selector can name it. */ -}}
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

{{- /* Of Vault or a git server: a policy knows no names, so it is let through by the port alone. */ -}}
{{- define "k8s-parsl.portOfUrl" -}}
{{- $host := regexFind "^https?://[^/]*" . -}}
{{- regexFind ":[0-9]+$" $host | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https:" .)) -}}
{{- end -}}
