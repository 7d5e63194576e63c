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
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /*
Of the variables of a user's container, as JSON, those that a container of ours gets: the ones named, and what their values
take from others (`$(X)`). No other: LD_PRELOAD or PYTHONPATH may name a volume on which workers write, and with it a worker
would run its own code beside a secret.
*/ -}}
{{- define "k8s-parsl.variables" -}}
{{- $names := .names -}}
{{- range .env -}}
{{- if has .name $.names -}}
{{- range regexFindAll "\\$\\([^)]+\\)" (.value | default "") -1 -}}
{{- $names = append $names (trimPrefix "$(" . | trimSuffix ")") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $given := list -}}
{{- range .env -}}
{{- if has .name $names -}}
{{- $given = append $given . -}}
{{- end -}}
{{- end -}}
{{- toJson $given -}}
{{- end -}}

{{- define "k8s-parsl.proxyVariables" -}}
{{- $names := list "all_proxy" "http_proxy" "https_proxy" "no_proxy" -}}
{{- range $names -}}
{{- $names = append $names (upper .) -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{- /* Of OpenSSL, and so of our Python: where the authorities' certificates are. */ -}}
{{- define "k8s-parsl.authorityVariables" -}}
{{- list "SSL_CERT_DIR" "SSL_CERT_FILE" | toJson -}}
{{- end -}}

{{- /*
Mounts of the user's container that hold the authorities' certificates, as JSON, read-only. What workers could write there
would make another server the git server, so they come from a ConfigMap, a Secret or an image.
*/ -}}
{{- define "k8s-parsl.authorityMounts" -}}
{{- $mounts := .pod.volumeMounts | default list -}}
{{- range $key, $volume := include "k8s-parsl.storage" .root | fromJson -}}
{{- $mounts = append $mounts (dict "name" (printf "storage-%s" $key) "mountPath" $volume.mountPath) -}}
{{- end -}}
{{- $fixed := list -}}
{{- range .pod.volumes -}}
{{- if or .configMap .secret .projected .image -}}
{{- $fixed = append $fixed .name -}}
{{- end -}}
{{- end -}}
{{- $found := list -}}
{{- range $variable := .pod.env -}}
{{- if has .name (include "k8s-parsl.authorityVariables" $ | fromJsonArray) -}}
{{- $nearest := dict "mountPath" "" -}}
{{- range $mounts -}}
{{- $above := hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) (printf "%s/" $variable.value) -}}
{{- if and $above (gt (len .mountPath) (len $nearest.mountPath)) -}}
{{- $nearest = . -}}
{{- end -}}
{{- end -}}
{{- if $nearest.mountPath -}}
{{- if not (has $nearest.name $fixed) -}}
{{- fail (printf "pod.env: %s (%s) is on volume %s, on which a pod may write; workflow.git takes it from a volume of a ConfigMap or a Secret (pod.volumes)" .name .value $nearest.name) -}}
{{- end -}}
{{- $found = append $found (set (omit $nearest "readOnly") "readOnly" true) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}

{{- /*
Fetches the workflow's code from git, in launcher and workers alike, by our image; the credentials are only here. Of the
user's container it gets what the way to the server may need, and nothing else: proxies, and the authorities' certificates.
*/ -}}
{{- define "k8s-parsl.checkout" -}}
{{- $git := .root.Values.workflow.git -}}
{{- $names := concat (include "k8s-parsl.proxyVariables" . | fromJsonArray) (include "k8s-parsl.authorityVariables" . | fromJsonArray) -}}
{{- $given := include "k8s-parsl.variables" (dict "env" .pod.env "names" $names) | fromJsonArray -}}
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
    {{- with include "k8s-parsl.authorityMounts" . | fromJsonArray }}
    {{- include "k8s-parsl.yaml" . | nindent 4 }}
    {{- end }}
{{- end -}}
