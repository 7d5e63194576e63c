{{- /*
The PVC and the PersistentVolume of each volume of `storage`. A volume may be null, because a later `-f` file can remove
it with null.
The context of these templates: `root`, and one volume's `key` and values (`volume`).
*/ -}}

{{- /* Name of a volume's PVC: an existing one, or `<release>-<key>` (DataONE: {release}-{function}-{instance}). */ -}}
{{- define "k8s-parsl.claimName" -}}
{{- $default := include "k8s-parsl.name" (dict "root" .root "suffix" .key) -}}
{{- coalesce .volume.existingClaim .volume.claimName $default -}}
{{- end -}}

{{- /*
Name of the node-stage Secret: from the values, or of namespace and PVC. Both parts of a two-part install get the same.
*/ -}}
{{- define "k8s-parsl.cephSecretName" -}}
{{- $of := list .root.Release.Namespace (include "k8s-parsl.claimName" .) -}}
{{- $default := include "k8s-parsl.outsideName" (dict "base" (join "-" $of) "suffix" "ceph" "of" $of "most" 253) -}}
{{- .volume.cephfs.secret.name | default $default -}}
{{- end -}}

{{- define "k8s-parsl.cephSecretNamespace" -}}
{{- .volume.cephfs.secret.namespace | default "ceph-csi-cephfs" -}}
{{- end -}}

{{- /* The volumes whose Ceph key has this source (values, vault or externalSecret), as JSON. */ -}}
{{- define "k8s-parsl.storageWithKeyFrom" -}}
{{- $found := dict -}}
{{- range $key, $volume := .root.Values.storage -}}
{{- $secret := (($volume).cephfs).secret | default dict -}}
{{- if get $secret $.source -}}
{{- $_ := set $found $key $volume -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- /*
The source in a static volume's PersistentVolume, without the volumeHandle. Empty for the other kinds of volume.
*/ -}}
{{- define "k8s-parsl.volumeSource" -}}
{{- if .volume.cephfs -}}
{{- include "k8s-parsl.cephfsSource" . -}}
{{- else -}}
{{- with .volume.persistentVolumeSource -}}
{{- include "k8s-parsl.yaml" . -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "k8s-parsl.cephfsSource" -}}
{{- $cephfs := .volume.cephfs -}}
csi:
  driver: {{ $cephfs.driver | default "cephfs.csi.ceph.com" | quote }}
  nodeStageSecretRef:
    name: {{ include "k8s-parsl.cephSecretName" . | quote }}
    namespace: {{ include "k8s-parsl.cephSecretNamespace" . | quote }}
  # https://github.com/ceph/ceph-csi/blob/devel/docs/static-pvc.md
  volumeAttributes:
    staticVolume: "true"
    {{- range $name := list "clusterID" "fsName" "rootPath" "mounter" "kernelMountOptions" "fuseMountOptions" }}
    {{- with get $cephfs $name }}
    {{ $name }}: {{ . | quote }}
    {{- end }}
    {{- end }}
{{- end -}}

{{- define "k8s-parsl.volumeName" -}}
{{- .volume.volumeName | default (include "k8s-parsl.defaultVolumeName" .) -}}
{{- end -}}

{{- /*
Name of a static volume's PersistentVolume: DataONE's `cephfs-<PVC>` where the release has the namespace's name, and
`cephfs-<namespace>.<PVC>` otherwise, as a PersistentVolume is cluster-scoped. No namespace has a dot, so the dot
distinguishes PVC `c` in namespace `a-b` from PVC `b-c` in `a`. Other sources are without `cephfs-`.
*/ -}}
{{- define "k8s-parsl.defaultVolumeName" -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $claim := include "k8s-parsl.claimName" . -}}
{{- $name := $claim -}}
{{- if ne $claim (printf "%s-%s" $namespace .key) -}}
{{- $name = printf "%s.%s" $namespace $claim -}}
{{- end -}}
{{- if .volume.cephfs -}}
{{- $name = printf "cephfs-%s" $name -}}
{{- end -}}
{{- if gt (len $name) 63 -}}
{{- $of := list $namespace $claim -}}
{{- $name = include "k8s-parsl.outsideName" (dict "base" $name "suffix" "" "of" $of "most" 63) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- /*
A node identifies a mounted volume by it, so each PersistentVolume of a cluster needs another one, and so does each
source: the default ends in a hash of namespace, PVC and source.
*/ -}}
{{- define "k8s-parsl.volumeHandle" -}}
{{- $place := list .root.Release.Namespace (include "k8s-parsl.claimName" .) -}}
{{- $base := printf "cephfs-%s" (join "-" $place) -}}
{{- $of := list $place (include "k8s-parsl.volumeSource" . | fromYaml) "" -}}
{{- $default := include "k8s-parsl.outsideName" (dict "base" $base "suffix" "" "of" $of "most" 63) -}}
{{- coalesce .volume.cephfs.volumeHandle .volume.volumeName $default -}}
{{- end -}}

{{- /* Labels and annotations of a volume's PersistentVolume or PVC: the user's, overridden by the chart's. */ -}}
{{- define "k8s-parsl.volumeMetadata" -}}
{{- $labels := include "k8s-parsl.withoutNulls" .volume.labels | fromJson -}}
{{- $labels = mergeOverwrite $labels (include "k8s-parsl.labels" .root | fromYaml) -}}
{{- $annotations := include "k8s-parsl.withoutNulls" .volume.annotations | fromJson -}}
{{- $annotations = mergeOverwrite $annotations (.annotations | default dict) -}}
labels:
  {{- include "k8s-parsl.yaml" $labels | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Deleting the PVC of a StorageClass deletes the data: no uninstall, upgrade or sync may do that. */ -}}
{{- define "k8s-parsl.claimAnnotations" -}}
{{- if .storageClassName -}}
helm.sh/resource-policy: keep
argocd.argoproj.io/sync-options: Prune=false,Delete=false
argocd.argoproj.io/compare-options: IgnoreExtraneous
# With the Job: a class may create a volume only when a pod asks for it, and Argo CD waits for each wave.
argocd.argoproj.io/sync-wave: "1"
{{- end -}}
{{- end -}}
