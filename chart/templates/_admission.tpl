{{- /*
The variables of the policy for the launcher's pods, as JSON lists: what this release's worker pods use. They come from
the manifests that the launcher reads. -1 means that the image decides on the user or group.
*/ -}}
{{- define "k8s-parsl.workerParts" -}}
{{- $parts := dict "secrets" (list (include "k8s-parsl.testCertificatesName" .)) -}}
{{- $certificates := include "k8s-parsl.certificatesName" . -}}
{{- range $label := include "k8s-parsl.executorLabels" . | fromJsonArray -}}
{{- $context := dict "root" $ "label" $label "certificates" $certificates -}}
{{- $spec := (include "k8s-parsl.workerManifest" $context | fromYaml).spec -}}
{{- $_ := set $spec "containers" (concat $spec.containers ($spec.initContainers | default list)) -}}
{{- $found := include "k8s-parsl.partsByPath" $spec | fromJson -}}
{{- range $more := list "idParts" "mountParts" "volumeParts" -}}
{{- $found = merge $found (include (printf "k8s-parsl.%s" $more) $spec | fromJson) -}}
{{- end -}}
{{- range $variable, $values := $found -}}
{{- $known := get $parts $variable | default list -}}
{{- $_ := set $parts $variable (concat $known ($values | default list) | uniq) -}}
{{- end -}}
{{- end -}}
{{- toJson $parts -}}
{{- end -}}

{{- /*
The paths of a variable's values in a PodSpec whose `containers` include the init containers. There is no path for a
kind of volume that "restricted" forbids, such as hostPath: the policy refuses it in the release's own workers as well.
*/ -}}
{{- define "k8s-parsl.partPaths" -}}
claims: [volumes.persistentVolumeClaim.claimName]
configMaps:
  - containers.envFrom.configMapRef.name
  - containers.env.valueFrom.configMapKeyRef.name
  - volumes.configMap.name
  - volumes.projected.sources.configMap.name
deviceClaims: [resourceClaims.resourceClaimName, resourceClaims.resourceClaimTemplateName]
images: [containers.image]
imageVolumes: [volumes.image.reference]
priorityClasses: [priorityClassName]
runtimeClasses: [runtimeClassName]
secrets:
  - containers.envFrom.secretRef.name
  - containers.env.valueFrom.secretKeyRef.name
  - volumes.secret.secretName
  - volumes.projected.sources.secret.name
storageClasses: [volumes.ephemeral.volumeClaimTemplate.spec.storageClassName]
supplementalGroups: [securityContext.supplementalGroups]
{{- end -}}

{{- define "k8s-parsl.partsByPath" -}}
{{- $spec := . -}}
{{- $found := dict -}}
{{- range $variable, $paths := include "k8s-parsl.partPaths" . | fromYaml -}}
{{- $values := list -}}
{{- range $paths -}}
{{- $values = concat $values (include "k8s-parsl.valuesAt" (dict "in" $spec "path" .) | fromJsonArray) -}}
{{- end -}}
{{- $_ := set $found $variable $values -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- /*
The values at a path such as a.b.c, as a JSON list. It follows every item of a list on the path, and skips null.
*/ -}}
{{- define "k8s-parsl.valuesAt" -}}
{{- $values := list .in -}}
{{- range $key := splitList "." .path -}}
{{- $below := list -}}
{{- range $values -}}
{{- $value := index . $key -}}
{{- if kindIs "slice" $value -}}
{{- $below = concat $below $value -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $below = append $below $value -}}
{{- end -}}
{{- end -}}
{{- $values = $below -}}
{{- end -}}
{{- toJson $values -}}
{{- end -}}

{{- /* The users and groups of a PodSpec: a container's own, or else the pod's. */ -}}
{{- define "k8s-parsl.idParts" -}}
{{- $pod := .securityContext | default dict -}}
{{- $users := list -}}
{{- $groups := list -}}
{{- range .containers -}}
{{- $own := include "k8s-parsl.withoutNulls" .securityContext | fromJson -}}
{{- $users = append $users (dig "runAsUser" (dig "runAsUser" -1 $pod) $own) -}}
{{- $groups = append $groups (dig "runAsGroup" (dig "runAsGroup" -1 $pod) $own) -}}
{{- end -}}
{{- dict "users" $users "groups" $groups "fsGroups" (list (dig "fsGroup" -1 $pod)) | toJson -}}
{{- end -}}

{{- /* How the containers of a PodSpec mount its PVCs, and which they use as block devices. */ -}}
{{- define "k8s-parsl.mountParts" -}}
{{- $claims := dict -}}
{{- range .volumes -}}
{{- $_ := set $claims .name (.persistentVolumeClaim | default dict) -}}
{{- end -}}
{{- $mounts := list -}}
{{- $devices := list -}}
{{- range .containers -}}
{{- range $mount := .volumeMounts -}}
{{- with get $claims .name -}}
{{- $readOnly := ternary "yes" "" (or $mount.readOnly .readOnly | default false) -}}
{{- $how := pick (include "k8s-parsl.withoutNulls" $mount | fromJson) "subPath" "subPathExpr" -}}
{{- $how = merge $how (dict "claim" .claimName "subPath" "" "subPathExpr" "" "readOnly" $readOnly) -}}
{{- $mounts = append $mounts $how -}}
{{- end -}}
{{- end -}}
{{- range .volumeDevices -}}
{{- $claim := get $claims .name | default dict -}}
{{- with $claim.claimName -}}
{{- $devices = append $devices . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "mounts" $mounts "devices" $devices | toJson -}}
{{- end -}}

{{- /*
Whether a volume of a PodSpec is projected, and the settings of each of its CSI volumes, as a list of texts.
*/ -}}
{{- define "k8s-parsl.volumeParts" -}}
{{- $kinds := list -}}
{{- $drivers := list -}}
{{- range .volumes -}}
{{- if .projected -}}
{{- $kinds = list "projected" -}}
{{- end -}}
{{- with .csi -}}
{{- $driver := list (printf "driver=%s" .driver) (printf "secret=%s" ((.nodePublishSecretRef).name | default "")) -}}
{{- range $name, $value := include "k8s-parsl.withoutNulls" .volumeAttributes | fromJson -}}
{{- $driver = append $driver (printf "%s: %s" $name $value) -}}
{{- end -}}
{{- $drivers = append $drivers $driver -}}
{{- end -}}
{{- end -}}
{{- dict "kinds" $kinds "drivers" $drivers | toJson -}}
{{- end -}}
