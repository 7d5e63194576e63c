{{- /*
The run's 8 hex digits: a hash of the immutable part of the Job's spec (docs/dev/architecture.md, "Installation and
run").
*/ -}}
{{- define "k8s-parsl.run" -}}
{{- include "k8s-parsl.launcherSpec" (dict "root" . "run" "") | fromYaml | toJson | sha256sum | trunc 8 -}}
{{- end -}}

{{- /*
The immutable part of the launcher Job's spec. `run` is the hash of this text, computed with an empty `run`.
https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
*/ -}}
{{- define "k8s-parsl.launcherSpec" -}}
{{- $values := .root.Values -}}
{{- $pod := include "k8s-parsl.launcherPod" .root | fromJson -}}
{{- $labels := dict -}}
{{- with .run -}}
{{- $labels = dict "k8s-parsl/run" . -}}
{{- end -}}
{{- $context := dict "root" .root "pod" $pod "component" "launcher" "more" $labels -}}
{{- $_ := set $context "settings" (include "k8s-parsl.settingsName" .root) -}}
{{- $_ := set $context "certificates" (include "k8s-parsl.certificatesName" .root) -}}
completions: 1
parallelism: 1
# No second launcher while the first one is still terminating.
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    # Errors that a new launcher would repeat: usage, bad data, permission, configuration
    {{- if not $values.job.retryOnFailure }}, the workflow's own{{ end }}.
    - action: FailJob
      onExitCodes:
        containerName: launcher
        operator: In
        values: [{{ if not $values.job.retryOnFailure }}1, {{ end }}64, 65, 77, 78]
    {{- if ($values.workflow.git).url }}
    - action: FailJob
      onExitCodes:
        containerName: checkout
        operator: In
        values: [64, 77, 78]
    {{- end }}
    {{- if or $values.run.volume (eq (toString $values.parsl.retryLostTasks) "all") }}
    # Drained, preempted, evicted: not the run's fault, so not counted. Without a volume the next launcher would not
    # know which tasks have begun (docs/dev/decisions/0011-what-may-run-twice.md).
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    {{- end }}
template:
  metadata:
    labels:
      {{- include "k8s-parsl.podLabels" $context | nindent 6 }}
    {{- with include "k8s-parsl.launcherAnnotations" (dict "root" .root "pod" $pod) | fromJson }}
    annotations:
      {{- include "k8s-parsl.yaml" . | nindent 6 }}
    {{- end }}
  spec:
    {{- include "k8s-parsl.launcherPodSpec" $context | nindent 4 }}
{{- end -}}

{{- /* The annotations of the launcher's pod: the values', and those by which a Prometheus finds it, as JSON. */ -}}
{{- define "k8s-parsl.launcherAnnotations" -}}
{{- $annotations := dict -}}
{{- with .root.Values.metrics -}}
{{- if and .enabled .annotations -}}
{{- $_ := set $annotations "prometheus.io/scrape" "true" -}}
{{- $_ := set $annotations "prometheus.io/port" (toString .port) -}}
{{- $_ := set $annotations "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- end -}}
{{- mergeOverwrite $annotations (.pod.annotations | default dict) | toJson -}}
{{- end -}}

{{- /*
The merged `pod` values of the launcher's pod. By the annotation, `kubectl logs` shows `launcher` by default.
*/ -}}
{{- define "k8s-parsl.launcherPod" -}}
{{- $annotations := dict "kubectl.kubernetes.io/default-container" "launcher" -}}
{{- $defaults := dict "terminationGracePeriodSeconds" 60 "annotations" $annotations -}}
{{- include "k8s-parsl.merged" (list $defaults .Values.pod .Values.launcher.pod) -}}
{{- end -}}

{{- /*
The PodSpec of the launcher, and of `helm test`, which has other `settings` and `certificates`. Container `workflow`
runs the user's code and has no permissions; container `launcher` has the permissions and runs none of that code. They
talk over a socket. kubelet starts containers in the order of the list: `workflow` is the first, as it takes longer to
be ready.
*/ -}}
{{- define "k8s-parsl.launcherPodSpec" -}}
serviceAccountName: {{ include "k8s-parsl.serviceAccountName" .root | quote }}
{{ include "k8s-parsl.podFields" . }}
{{- include "k8s-parsl.initContainers" . }}
{{- with .pod.tolerations }}
tolerations:
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
{{- end }}
containers:
  - name: workflow
    command:
      - {{ include "k8s-parsl.literal" (.root.Values.image.python | default "python3") | quote }}
      - -I
      - /opt/k8s-parsl-runtime/start.py
      - workflow
      - --socket
      - /run/k8s-parsl-launcher/socket
    {{- include "k8s-parsl.userContainerFields" . | nindent 4 }}
    ports:
      {{- range $index, $_ := include "k8s-parsl.executorLabels" .root | fromJsonArray }}
      - name: executor-{{ $index }}
        containerPort: {{ add $.root.Values.parsl.workerPort $index }}
      {{- end }}
    env:
      {{- include "k8s-parsl.userEnv" . | trim | nindent 6 }}
    volumeMounts:
      {{- with include "k8s-parsl.runtimeMount" . }}
      {{- . | nindent 6 }}
      {{- end }}
      - name: socket
        mountPath: /run/k8s-parsl-launcher
        readOnly: true
      {{- include "k8s-parsl.volumeMounts" . | nindent 6 }}
  - name: launcher
    args: [run]
    {{- include "k8s-parsl.ourContainerFields" . | nindent 4 }}
    {{- with .root.Values.metrics }}
    {{- if .enabled }}
    ports:
      - name: metrics
        containerPort: {{ .port }}
    {{- end }}
    {{- end }}
    env:
      {{- include "k8s-parsl.identityEnv" . | nindent 6 }}
      {{- with include "k8s-parsl.notifyEnv" . }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- $env := dict "ours" (dict "HOME" "/tmp") "given" .root.Values.launcher.env }}
      {{- include "k8s-parsl.env" $env | trim | nindent 6 }}
    volumeMounts:
      - name: settings
        mountPath: /etc/k8s-parsl
        readOnly: true
      - name: kubernetes-api
        mountPath: /var/run/secrets/kubernetes.io/serviceaccount
        readOnly: true
      - name: socket
        mountPath: /run/k8s-parsl-launcher
      - name: launcher-tmp
        mountPath: /tmp
      {{- with get .root.Values.storage (.root.Values.run.volume | default "") }}
      {{- include "k8s-parsl.storageMount" (dict "key" $.root.Values.run.volume "volume" .) | nindent 6 }}
      {{- end }}
  {{- with .pod.containers }}
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
  {{- end }}
volumes:
  - name: settings
    configMap:
      name: {{ .settings }}
  {{- include "k8s-parsl.apiTokenVolume" . | nindent 2 }}
  - name: socket
    emptyDir:
      medium: Memory
      sizeLimit: 1Mi
  - name: launcher-tmp
    emptyDir: {}
  {{- include "k8s-parsl.volumes" . | nindent 2 }}
{{- end -}}

{{- /*
The URLs for messages about the run. Only the container `launcher` has them, and not the one of `helm test`. A Secret
that is missing costs the messages, and not the run.
*/ -}}
{{- define "k8s-parsl.notifyEnv" -}}
{{- $notify := .root.Values.notify | default dict -}}
{{- if and $notify.secret (ne (get (.more | default dict) "k8s-parsl/run") "test") -}}
- name: K8S_PARSL_NOTIFY_URL
  valueFrom:
    secretKeyRef: {name: {{ $notify.secret | quote }}, key: {{ $notify.secretKey | default "url" | quote }}, optional: true}
{{- end -}}
{{- end -}}
