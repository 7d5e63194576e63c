{{- /* The volumes, without those set to null, as JSON. */ -}}
{{- define "k8s-parsl.storage" -}}
{{- include "k8s-parsl.entries" .Values.storage -}}
{{- end -}}

{{- /* Name of a volume's claim: somebody else's, or `<release>-<key>` (DataONE: {release}-{function}-{instance}). */ -}}
{{- define "k8s-parsl.claimName" -}}
{{- $ours := include "k8s-parsl.name" (dict "root" .root "suffix" .key) -}}
{{- coalesce .volume.existingClaim .volume.claimName $ours -}}
{{- end -}}

{{- /* The node-stage Secret: given, or named after the claim where this chart sees to it; both halves call it the same. */ -}}
{{- define "k8s-parsl.cephSecretName" -}}
{{- $of := list .root.Release.Namespace (include "k8s-parsl.claimName" .) -}}
{{- $ours := include "k8s-parsl.outsideName" (dict "base" (join "-" $of) "suffix" "ceph" "of" $of "most" 253) -}}
{{- .volume.cephfs.secret.name | default $ours -}}
{{- end -}}

{{- define "k8s-parsl.cephSecretNamespace" -}}
{{- .volume.cephfs.secret.namespace | default "ceph-csi-cephfs" -}}
{{- end -}}

{{- /* Volumes whose node-stage Secret has a source of this kind (values, vault, externalSecret), as JSON. */ -}}
{{- define "k8s-parsl.storageWithKeyFrom" -}}
{{- $found := dict -}}
{{- range $key, $volume := include "k8s-parsl.storage" .root | fromJson -}}
{{- with $volume.cephfs -}}
{{- if get .secret $.source -}}
{{- $_ := set $found $key $volume -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- /* Source of a static volume, as in a PersistentVolume's spec but for the volumeHandle; empty for the other kinds. */ -}}
{{- define "k8s-parsl.volumeSource" -}}
{{- with .volume.cephfs -}}
csi:
  driver: {{ .driver | default "cephfs.csi.ceph.com" | quote }}
  nodeStageSecretRef:
    name: {{ include "k8s-parsl.cephSecretName" $ | quote }}
    namespace: {{ include "k8s-parsl.cephSecretNamespace" $ | quote }}
  # https://github.com/ceph/ceph-csi/blob/devel/docs/static-pvc.md
  volumeAttributes:
    staticVolume: "true"
    {{- range $name := list "clusterID" "fsName" "rootPath" "mounter" "kernelMountOptions" "fuseMountOptions" }}
    {{- with get $.volume.cephfs $name }}
    {{ $name }}: {{ . | quote }}
    {{- end }}
    {{- end }}
{{- else -}}
{{- with .volume.persistentVolumeSource -}}
{{- include "k8s-parsl.yaml" . -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /*
Name of a static volume's PersistentVolume. It is cluster-wide, so it has the namespace; a source is immutable, so
another source is another name; the hash comes last and is never cut off.
*/ -}}
{{- define "k8s-parsl.volumeName" -}}
{{- $place := list .root.Release.Namespace (include "k8s-parsl.claimName" .) -}}
{{- $source := include "k8s-parsl.volumeSource" . | fromYaml -}}
{{- $handle := dig "volumeHandle" "" (.volume.cephfs | default dict) -}}
{{- $base := printf "%s%s" (ternary "cephfs-" "" (not (empty .volume.cephfs))) (join "-" $place) -}}
{{- $ours := include "k8s-parsl.outsideName" (dict "base" $base "suffix" "" "of" (list $place $source $handle) "most" 63) -}}
{{- .volume.volumeName | default $ours -}}
{{- end -}}

{{- /* Labels and annotations of a volume's PersistentVolume or claim: the user's, and over them our own. */ -}}
{{- define "k8s-parsl.volumeMetadata" -}}
{{- $labels := mergeOverwrite (include "k8s-parsl.entries" .volume.labels | fromJson) (include "k8s-parsl.labels" .root | fromYaml) -}}
{{- $annotations := mergeOverwrite (include "k8s-parsl.entries" .volume.annotations | fromJson) (.annotations | default dict) -}}
labels:
  {{- include "k8s-parsl.yaml" $labels | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A claim that a storage class makes a volume for is the data: no uninstall, upgrade or sync may delete it. */ -}}
{{- define "k8s-parsl.claimAnnotations" -}}
{{- if .storageClassName -}}
helm.sh/resource-policy: keep
argocd.argoproj.io/sync-options: Prune=false,Delete=false
argocd.argoproj.io/compare-options: IgnoreExtraneous
# With the Job: a class may make a volume only for a pod that asks for it, and Argo CD waits for each wave.
argocd.argoproj.io/sync-wave: "1"
{{- end -}}
{{- end -}}
