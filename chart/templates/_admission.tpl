{{- /*
What the pods of this release's workers are made of, as JSON lists: images, users and groups, the names of what they use,
and how they mount it. Gathered from the very manifests that the launcher reads. -1: the manifest leaves it open.
*/ -}}
{{- define "k8s-parsl.workerParts" -}}
{{- $parts := dict "secrets" (list (include "k8s-parsl.testCertificatesName" .)) -}}
{{- range $key := list "claims" "configMaps" "deviceClaims" "devices" "drivers" "fsGroups" "groups" "imageVolumes" "images" "kinds" "mounts" "priorityClasses" "runtimeClasses" "storageClasses" "supplementalGroups" "users" -}}
{{- $_ := set $parts $key list -}}
{{- end -}}
{{- range $label, $_ := include "k8s-parsl.entries" .Values.executors | fromJson -}}
{{- $spec := (include "k8s-parsl.workerManifest" (dict "root" $ "label" $label "certificates" (include "k8s-parsl.certificatesName" $)) | fromYaml).spec -}}
{{- $spec = (include "k8s-parsl.withoutNulls" $spec | fromJson).value -}}
{{- include "k8s-parsl.podParts" (list $parts $spec) -}}
{{- range concat $spec.containers ($spec.initContainers | default list) -}}
{{- include "k8s-parsl.containerParts" (list $parts $spec .) -}}
{{- end -}}
{{- range $spec.volumes -}}
{{- include "k8s-parsl.volumeParts" (list $parts .) -}}
{{- end -}}
{{- end -}}
{{- toJson $parts -}}
{{- end -}}

{{- define "k8s-parsl.podParts" -}}
{{- $parts := index . 0 -}}{{- $spec := index . 1 -}}
{{- include "k8s-parsl.add" (list $parts "fsGroups" (dig "securityContext" "fsGroup" -1 $spec)) -}}
{{- range dig "securityContext" "supplementalGroups" list $spec -}}
{{- include "k8s-parsl.add" (list $parts "supplementalGroups" .) -}}
{{- end -}}
{{- include "k8s-parsl.add" (list $parts "priorityClasses" $spec.priorityClassName) -}}
{{- include "k8s-parsl.add" (list $parts "runtimeClasses" $spec.runtimeClassName) -}}
{{- range $spec.resourceClaims -}}
{{- include "k8s-parsl.add" (list $parts "deviceClaims" .resourceClaimName) -}}
{{- include "k8s-parsl.add" (list $parts "deviceClaims" .resourceClaimTemplateName) -}}
{{- end -}}
{{- end -}}

{{- define "k8s-parsl.containerParts" -}}
{{- $parts := index . 0 -}}{{- $spec := index . 1 -}}{{- $container := index . 2 -}}
{{- include "k8s-parsl.add" (list $parts "images" $container.image) -}}
{{- range $key, $field := dict "users" "runAsUser" "groups" "runAsGroup" -}}
{{- $of := dig "securityContext" $field -1 $spec -}}
{{- include "k8s-parsl.add" (list $parts $key (dig "securityContext" $field $of $container)) -}}
{{- end -}}
{{- range $container.envFrom -}}
{{- include "k8s-parsl.add" (list $parts "secrets" (dig "secretRef" "name" nil .)) -}}
{{- include "k8s-parsl.add" (list $parts "configMaps" (dig "configMapRef" "name" nil .)) -}}
{{- end -}}
{{- range $container.env -}}
{{- include "k8s-parsl.add" (list $parts "secrets" (dig "valueFrom" "secretKeyRef" "name" nil .)) -}}
{{- include "k8s-parsl.add" (list $parts "configMaps" (dig "valueFrom" "configMapKeyRef" "name" nil .)) -}}
{{- end -}}
{{- $claims := dict -}}
{{- range $spec.volumes -}}
{{- $_ := set $claims .name (.persistentVolumeClaim | default dict) -}}
{{- end -}}
{{- range $container.volumeMounts -}}
{{- $claim := get $claims .name | default dict -}}
{{- if $claim -}}
{{- $readOnly := ternary "yes" "" (or .readOnly $claim.readOnly | default false) -}}
{{- $mount := dict "claim" $claim.claimName "subPath" (.subPath | default "") "subPathExpr" (.subPathExpr | default "") "readOnly" $readOnly -}}
{{- include "k8s-parsl.add" (list $parts "mounts" $mount) -}}
{{- end -}}
{{- end -}}
{{- range $container.volumeDevices -}}
{{- include "k8s-parsl.add" (list $parts "devices" (dig .name "claimName" nil $claims)) -}}
{{- end -}}
{{- end -}}

{{- /* Of kinds that "restricted" forbids (a hostPath), nothing: the policy refuses them in the release's own workers, too. */ -}}
{{- define "k8s-parsl.volumeParts" -}}
{{- $parts := index . 0 -}}{{- $volume := index . 1 -}}
{{- include "k8s-parsl.add" (list $parts "secrets" (dig "secret" "secretName" nil $volume)) -}}
{{- include "k8s-parsl.add" (list $parts "configMaps" (dig "configMap" "name" nil $volume)) -}}
{{- include "k8s-parsl.add" (list $parts "claims" (dig "persistentVolumeClaim" "claimName" nil $volume)) -}}
{{- include "k8s-parsl.add" (list $parts "imageVolumes" (dig "image" "reference" nil $volume)) -}}
{{- with $volume.projected -}}
{{- include "k8s-parsl.add" (list $parts "kinds" "projected") -}}
{{- range .sources -}}
{{- include "k8s-parsl.add" (list $parts "secrets" (dig "secret" "name" nil .)) -}}
{{- include "k8s-parsl.add" (list $parts "configMaps" (dig "configMap" "name" nil .)) -}}
{{- end -}}
{{- end -}}
{{- with $volume.csi -}}
{{- $driver := list (printf "driver=%s" .driver) (printf "secret=%s" (dig "nodePublishSecretRef" "name" "" .)) -}}
{{- range $name, $value := .volumeAttributes -}}
{{- $driver = append $driver (printf "%s: %s" $name $value) -}}
{{- end -}}
{{- include "k8s-parsl.add" (list $parts "drivers" $driver) -}}
{{- end -}}
{{- with $volume.ephemeral -}}
{{- include "k8s-parsl.add" (list $parts "storageClasses" (dig "volumeClaimTemplate" "spec" "storageClassName" "" .)) -}}
{{- end -}}
{{- end -}}

{{- /* What the API server makes of a manifest: a null is as good as no key. As JSON, below `value`. */ -}}
{{- define "k8s-parsl.withoutNulls" -}}
{{- $value := . -}}
{{- if kindIs "map" . -}}
{{- $value = dict -}}
{{- range $key, $below := . -}}
{{- if not (kindIs "invalid" $below) -}}
{{- $_ := set $value $key (include "k8s-parsl.withoutNulls" $below | fromJson).value -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" . -}}
{{- $value = list -}}
{{- range . -}}
{{- $value = append $value (include "k8s-parsl.withoutNulls" . | fromJson).value -}}
{{- end -}}
{{- end -}}
{{- dict "value" $value | toJson -}}
{{- end -}}

{{- /* (parts, key, value): the value, if there is one, among those of the key. */ -}}
{{- define "k8s-parsl.add" -}}
{{- $parts := index . 0 -}}{{- $key := index . 1 -}}{{- $value := index . 2 -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $parts $key (append (get $parts $key) $value | uniq) -}}
{{- end -}}
{{- end -}}
