{{- /* Of launcher and workers: the code first, then what the knobs hold. */ -}}
{{- define "k8s-parsl.initContainers" -}}
{{- if or (.root.Values.workflow.git).url .pod.initContainers }}
initContainers:
  {{- if (.root.Values.workflow.git).url }}
  {{- include "k8s-parsl.checkout" . | nindent 2 }}
  {{- end }}
  {{- with .pod.initContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /*
Fetches the workflow's code from git, in launcher and workers alike: same image, user and size as the main container, but
the credentials are only here. Not mounted at workflow.path, so that none of the code is on its own PYTHONPATH.
*/ -}}
{{- define "k8s-parsl.checkout" -}}
{{- $git := .root.Values.workflow.git -}}
- name: checkout
  args:
    - checkout
    {{- range $key := list "url" "commit" "path" "secret" }}
    {{- with get $git $key }}
    - {{ printf "--%s=%s" $key . | quote }}
    {{- end }}
    {{- end }}
    - /checkout
  {{- include "k8s-parsl.containerFields" . | nindent 2 }}
  env:
    {{- with $git.secret }}
    - name: K8S_PARSL_GIT_USERNAME
      valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: username, optional: true}}
    - name: K8S_PARSL_GIT_PASSWORD
      valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: password}}
    {{- end }}
    {{- include "k8s-parsl.env" . | trim | nindent 4 }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    - name: workflow
      mountPath: /checkout
    {{- with .pod.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
