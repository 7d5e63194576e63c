{{- /*
The init containers of launcher and workers: ours, which provide the runtime and the code, then those of `pod`.
*/ -}}
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
The environment variables in `env`, those of a user's container, that a container of ours gets too, as JSON: the
`names`, and the variables that their values use (`$(X)`). No others: LD_PRELOAD or PYTHONPATH may point to a volume on
which workers can write, and then a worker's code would run in a container with a Secret.
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
all_proxy http_proxy https_proxy no_proxy ALL_PROXY HTTP_PROXY HTTPS_PROXY NO_PROXY
{{- end -}}

{{- /* OpenSSL, and so our Python, looks there for the CA certificates. */ -}}
{{- define "k8s-parsl.authorityVariables" -}}
SSL_CERT_DIR SSL_CERT_FILE
{{- end -}}

{{- /*
The mounts of the user's container with the CA certificates, read-only, as JSON. A pod that can write there can
impersonate the git server, so only volumes of a ConfigMap, a Secret or an image are allowed: no pod can write to these.
*/ -}}
{{- define "k8s-parsl.authorityMounts" -}}
{{- $names := include "k8s-parsl.authorityVariables" . | splitList " " -}}
{{- $readOnlyVolumes := list -}}
{{- range .pod.volumes -}}
{{- if or .configMap .secret .projected .image -}}
{{- $readOnlyVolumes = append $readOnlyVolumes .name -}}
{{- end -}}
{{- end -}}
{{- $found := list -}}
{{- range .pod.env -}}
{{- if has .name $names -}}
{{- $mount := include "k8s-parsl.mountOf" (dict "root" $.root "pod" $.pod "path" .value) | fromJson -}}
{{- if $mount -}}
{{- if not (has $mount.name $readOnlyVolumes) -}}
{{- $where := printf "pod.env: %s (%s) is on volume %s" .name .value $mount.name -}}
{{- $why := "on which a pod may write; workflow.git takes it from a volume of a ConfigMap or a Secret (pod.volumes)" -}}
{{- fail (printf "%s, %s" $where $why) -}}
{{- end -}}
{{- $found = append $found (set $mount "readOnly" true) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}

{{- /*
The mount of the user's container that has `path`, as JSON: the one with the longest mountPath; {} for none.
*/ -}}
{{- define "k8s-parsl.mountOf" -}}
{{- $path := printf "%s/" .path -}}
{{- $mounts := .pod.volumeMounts | default list -}}
{{- range $key, $volume := .root.Values.storage -}}
{{- with $volume -}}
{{- $mounts = append $mounts (dict "name" (printf "storage-%s" $key) "mountPath" .mountPath) -}}
{{- end -}}
{{- end -}}
{{- $longest := dict -}}
{{- range $mounts -}}
{{- $holds := hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) $path -}}
{{- if and $holds (gt (len .mountPath) (len ($longest.mountPath | default ""))) -}}
{{- $longest = . -}}
{{- end -}}
{{- end -}}
{{- toJson $longest -}}
{{- end -}}

{{- /*
The init container that fetches the workflow's code from git, with our image, in launcher and workers. Only this
container has the credentials. It gets the proxy variables and CA certificates of the user's container, because the
connection may need them.
*/ -}}
{{- define "k8s-parsl.checkout" -}}
{{- $git := .root.Values.workflow.git -}}
{{- $proxies := include "k8s-parsl.proxyVariables" . | splitList " " -}}
{{- $authorities := include "k8s-parsl.authorityVariables" . | splitList " " -}}
{{- $variables := dict "env" .pod.env "names" (concat $proxies $authorities) -}}
{{- $given := include "k8s-parsl.variables" $variables | fromJsonArray -}}
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
