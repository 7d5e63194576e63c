{{- /* Of launcher and workers: our runtime and the code first, then what the knobs hold. */ -}}
{{- define "k8s-parsl.initContainers" -}}
{{- $copied := eq (include "k8s-parsl.runtimeBy" .) "copy" -}}
{{- if or $copied (.root.Values.workflow.git).url .pod.initContainers }}
initContainers:
  {{- if $copied }}
  {{- include "k8s-parsl.runtimeContainer" . | nindent 2 }}
  {{- end }}
  {{- if (.root.Values.workflow.git).url }}
  {{- include "k8s-parsl.checkout" . | nindent 2 }}
  {{- end }}
  {{- with .pod.initContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /*
Fetches the workflow's code from git, in launcher and workers alike, by our image. It has what the way to the server may
need of the user's container (variables of a proxy, a certificate on a volume); the credentials are only here. It is our
own Python that runs, so it gets no variable that is for the user's.
*/ -}}
{{- define "k8s-parsl.checkout" -}}
{{- $git := .root.Values.workflow.git -}}
{{- $given := list -}}
{{- range .pod.env -}}
{{- if not (hasPrefix "PYTHON" .name) -}}
{{- $given = append $given . -}}
{{- end -}}
{{- end -}}
- name: checkout
  args:
    - checkout
    {{- range $key := list "url" "commit" "path" "secret" }}
    {{- with get $git $key }}
    - {{ printf "--%s=%s" $key (include "k8s-parsl.literal" .) | quote }}
    {{- end }}
    {{- end }}
    - /checkout
  {{- include "k8s-parsl.ourContainerFields" . | nindent 2 }}
  {{- with .pod.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  env:
    {{- with $git.secret }}
    - name: K8S_PARSL_GIT_USERNAME
      valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: username, optional: true}}
    - name: K8S_PARSL_GIT_PASSWORD
      valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: password}}
    {{- end }}
    {{- include "k8s-parsl.env" (dict "ours" (dict "HOME" "/tmp") "given" $given) | trim | nindent 4 }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    - name: workflow
      mountPath: /checkout
    {{- with .pod.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
