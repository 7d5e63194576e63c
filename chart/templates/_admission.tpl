{{- /*
What the pods of this release's workers are made of, as JSON: images, and the names of Secrets, ConfigMaps, claims and
other things that they use. Gathered from the very manifests that the launcher reads.
*/ -}}
{{- define "k8s-parsl.workerParts" -}}
{{- $parts := dict "images" list "secrets" (list (include "k8s-parsl.testCertificatesName" .)) "configMaps" list "claims" list "users" list "priorityClasses" list "runtimeClasses" list "others" dict -}}
{{- range $label, $_ := include "k8s-parsl.entries" .Values.executors | fromJson -}}
{{- $spec := (include "k8s-parsl.workerManifest" (dict "root" $ "label" $label "certificates" (include "k8s-parsl.certificatesName" $)) | fromYaml).spec -}}
{{- include "k8s-parsl.add" (list $parts "users" (dig "securityContext" "runAsUser" nil $spec)) -}}
{{- include "k8s-parsl.add" (list $parts "priorityClasses" $spec.priorityClassName) -}}
{{- include "k8s-parsl.add" (list $parts "runtimeClasses" $spec.runtimeClassName) -}}
{{- range concat $spec.containers ($spec.initContainers | default list) -}}
{{- include "k8s-parsl.add" (list $parts "images" .image) -}}
{{- include "k8s-parsl.add" (list $parts "users" (dig "securityContext" "runAsUser" nil .)) -}}
{{- range .envFrom -}}
{{- include "k8s-parsl.add" (list $parts "secrets" (dig "secretRef" "name" nil .)) -}}
{{- include "k8s-parsl.add" (list $parts "configMaps" (dig "configMapRef" "name" nil .)) -}}
{{- end -}}
{{- range .env -}}
{{- include "k8s-parsl.add" (list $parts "secrets" (dig "valueFrom" "secretKeyRef" "name" nil .)) -}}
{{- include "k8s-parsl.add" (list $parts "configMaps" (dig "valueFrom" "configMapKeyRef" "name" nil .)) -}}
{{- end -}}
{{- end -}}
{{- range $spec.volumes -}}
{{- include "k8s-parsl.add" (list $parts "secrets" (dig "secret" "secretName" nil .)) -}}
{{- include "k8s-parsl.add" (list $parts "configMaps" (dig "configMap" "name" nil .)) -}}
{{- include "k8s-parsl.add" (list $parts "claims" (dig "persistentVolumeClaim" "claimName" nil .)) -}}
{{- range dig "projected" "sources" list . -}}
{{- include "k8s-parsl.add" (list $parts "secrets" (dig "secret" "name" nil .)) -}}
{{- include "k8s-parsl.add" (list $parts "configMaps" (dig "configMap" "name" nil .)) -}}
{{- end -}}
{{- /* Of other kinds, what tells one from another, where we know it. */ -}}
{{- range $kind, $source := omit . "name" "secret" "configMap" "persistentVolumeClaim" "emptyDir" "downwardAPI" -}}
{{- $field := get (dict "hostPath" "path" "nfs" "server" "csi" "driver" "image" "reference") $kind -}}
{{- $condition := printf "has(v.%s)" $kind -}}
{{- if $field -}}
{{- $condition = printf "has(v.%s) && v.%s.%s == %s" $kind $kind $field (get $source $field | toJson) -}}
{{- else if eq $kind "projected" -}}
{{- $condition = "has(v.projected) && v.projected.sources.all(s, !has(s.serviceAccountToken) && (!has(s.secret) || s.secret.name in variables.secrets) && (!has(s.configMap) || s.configMap.name in variables.configMaps))" -}}
{{- end -}}
{{- $_ := set $parts.others $condition true -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $parts -}}
{{- end -}}

{{- /* (parts, key, value): the value, if there is one, among those of the key. */ -}}
{{- define "k8s-parsl.add" -}}
{{- $parts := index . 0 -}}{{- $key := index . 1 -}}{{- $value := index . 2 -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $parts $key (append (get $parts $key) $value | uniq) -}}
{{- end -}}
{{- end -}}
