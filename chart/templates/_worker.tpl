{{- /*
The pod of one executor's workers, as the launcher reads it from worker-<label>.yaml. The launcher adds the name, the
labels of run and block, the owner reference and the arguments; the chart decides everything else
(docs/dev/architecture.md, "Worker pods"). The context: `root`, the executor's `label` and the Secret `certificates`.
*/ -}}
{{- define "k8s-parsl.workerManifest" -}}
{{- $values := .root.Values -}}
{{- $pod := include "k8s-parsl.workerPod" . | fromJson -}}
{{- $labels := dict "k8s-parsl/executor" .label -}}
{{- $context := dict "root" .root "pod" $pod "component" "worker" "more" $labels -}}
apiVersion: v1
kind: Pod
metadata:
  labels:
    {{- include "k8s-parsl.podLabels" $context | nindent 4 }}
  {{- with $pod.annotations }}
  annotations:
    {{- include "k8s-parsl.yaml" . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "k8s-parsl.workerServiceAccountName" .root | quote }}
  {{- include "k8s-parsl.podFields" $context | nindent 2 }}
  {{- with include "k8s-parsl.initContainers" $context }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  tolerations:
    {{- include "k8s-parsl.workerTolerations" $context | trim | nindent 4 }}
  containers:
    - name: worker
      command: [{{ include "k8s-parsl.literal" ($values.image.python | default "python3") | quote }}, -I, /opt/k8s-parsl-runtime/start.py]
      args: [worker]
      {{- include "k8s-parsl.userContainerFields" $context | nindent 6 }}
      env:
        - name: K8S_PARSL_POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        {{- include "k8s-parsl.userEnv" $context | trim | nindent 8 }}
      volumeMounts:
        {{- if $values.parsl.encrypted }}
        - name: certificates
          mountPath: /etc/k8s-parsl-certificates
          readOnly: true
        {{- end }}
        {{- with include "k8s-parsl.runtimeMount" $context }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- include "k8s-parsl.volumeMounts" $context | nindent 8 }}
    {{- with $pod.containers }}
    {{- include "k8s-parsl.yaml" . | nindent 4 }}
    {{- end }}
  volumes:
    {{- if $values.parsl.encrypted }}
    {{- /* 0444: without an fsGroup, a user other than root could not read it otherwise
           (docs/dev/architecture.md, "Certificates and lifeline"). */}}
    - name: certificates
      secret:
        secretName: {{ .certificates }}
        defaultMode: 0444
    {{- end }}
    {{- include "k8s-parsl.volumes" $context | nindent 4 }}
{{- end -}}

{{- /* The merged `pod` values of one executor's worker pods. */ -}}
{{- define "k8s-parsl.workerPod" -}}
{{- $executor := index .root.Values.executors .label -}}
{{- $defaults := dict "terminationGracePeriodSeconds" 30 -}}
{{- include "k8s-parsl.merged" (list $defaults .root.Values.pod .root.Values.worker.pod $executor.pod) -}}
{{- end -}}

{{- /* Worker pods leave a lost node after a minute, not Kubernetes' five. The values' tolerations override this. */ -}}
{{- define "k8s-parsl.workerTolerations" -}}
{{- $given := list -}}
{{- range .pod.tolerations -}}
{{- $given = append $given .key -}}
{{- end -}}
{{- with .pod.tolerations }}
{{ include "k8s-parsl.yaml" . }}
{{- end }}
{{- range $key := list "node.kubernetes.io/not-ready" "node.kubernetes.io/unreachable" }}
{{- if not (has $key $given) }}
- key: {{ $key }}
  operator: Exists
  effect: NoExecute
  tolerationSeconds: {{ $.root.Values.worker.tolerationSeconds }}
{{- end }}
{{- end }}
{{- end -}}
