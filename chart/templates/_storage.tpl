{{- /* The volumes, without those set to null, as JSON. */ -}}
{{- define "k8s-parsl.storage" -}}
{{- include "k8s-parsl.entries" .Values.storage -}}
{{- end -}}

{{- /* Name of a volume's claim: somebody else's, or `<release>-<key>` (DataONE: {release}-{function}-{instance}). */ -}}
{{- define "k8s-parsl.claimName" -}}
{{- $ours := include "k8s-parsl.name" (dict "root" .root "suffix" .key) -}}
{{- coalesce .volume.existingClaim .volume.claimName $ours -}}
{{- end -}}

{{- /* Source of a static volume, as in a PersistentVolume's spec but for the volumeHandle; empty for the other kinds. */ -}}
{{- define "k8s-parsl.volumeSource" -}}
{{- with .cephfs -}}
csi:
  driver: {{ .driver | default "cephfs.csi.ceph.com" | quote }}
  nodeStageSecretRef:
    name: {{ .secret.name | quote }}
    namespace: {{ .secret.namespace | default "ceph-csi-cephfs" | quote }}
  # https://github.com/ceph/ceph-csi/blob/devel/docs/static-pvc.md
  volumeAttributes:
    staticVolume: "true"
    {{- range $name := list "clusterID" "fsName" "rootPath" "mounter" "kernelMountOptions" "fuseMountOptions" }}
    {{- with get $.cephfs $name }}
    {{ $name }}: {{ . | quote }}
    {{- end }}
    {{- end }}
{{- else -}}
{{- with .persistentVolumeSource -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /*
Name of a static volume's PersistentVolume. It is cluster-wide, so it has the namespace; a source is immutable, so
another source is another name; the hash comes last and is never cut off.
*/ -}}
{{- define "k8s-parsl.volumeName" -}}
{{- $claim := include "k8s-parsl.claimName" . -}}
{{- $place := printf "%s%s-%s" (ternary "cephfs-" "" (not (empty .volume.cephfs))) .root.Release.Namespace $claim -}}
{{- $source := include "k8s-parsl.volumeSource" .volume | fromYaml | toJson -}}
{{- $handle := dig "volumeHandle" "" (.volume.cephfs | default dict) -}}
{{- $hash := printf "%s %s %s" $place $source $handle | sha256sum | trunc 6 -}}
{{- .volume.volumeName | default (printf "%s-%s" (trunc 56 $place | regexFind "^.*[a-z0-9]") $hash) -}}
{{- end -}}
