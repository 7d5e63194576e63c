{{- /* The volumes of workflow and workers, and where they are mounted: the same in both pods. */ -}}

{{- define "k8s-parsl.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
- name: run
  mountPath: /run/k8s-parsl
{{- if or .root.Values.workflow.files (.root.Values.workflow.git).url }}
- name: workflow
  mountPath: {{ .root.Values.workflow.path | quote }}
  {{- if .root.Values.workflow.files }}
  {{- /* The files themselves. Without the subPath they are links into a folder with another name in each pod. */}}
  subPath: ..data
  {{- end }}
  readOnly: true
{{- end }}
{{- range $key, $volume := .root.Values.storage }}
{{- if $volume }}
{{ include "k8s-parsl.storageMount" (dict "key" $key "volume" $volume) }}
{{- end }}
{{- end }}
{{- if .pod.sharedMemory }}
- name: shared-memory
  mountPath: /dev/shm
{{- end }}
{{- with .pod.volumeMounts }}
{{ include "k8s-parsl.yaml" . }}
{{- end }}
{{- end -}}

{{- define "k8s-parsl.storageMount" -}}
- name: storage-{{ .key }}
  mountPath: {{ .volume.mountPath | quote }}
  {{- with .volume.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
  {{- if .volume.readOnly }}
  readOnly: true
  {{- end }}
{{- end -}}

{{- define "k8s-parsl.volumes" -}}
{{- with include "k8s-parsl.runtimeVolume" . }}
{{- . }}
{{ end -}}
{{- /*
The root file system is read-only. These can be written: /tmp, the folder of the certificates and the volumes.
*/ -}}
- name: tmp
  emptyDir: {}
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- if .root.Values.workflow.files }}
- name: workflow
  configMap:
    name: {{ include "k8s-parsl.workflowName" .root }}
{{- else if (.root.Values.workflow.git).url }}
- name: workflow
  emptyDir:
    sizeLimit: 1Gi
{{- end }}
{{- range $key, $volume := .root.Values.storage }}
{{- if $volume }}
{{- $context := dict "root" $.root "key" $key "volume" $volume }}
- name: storage-{{ $key }}
  persistentVolumeClaim:
    claimName: {{ include "k8s-parsl.claimName" $context | quote }}
    {{- if $volume.readOnly }}
    readOnly: true
    {{- end }}
{{- end }}
{{- end }}
{{- with .pod.sharedMemory }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ . }}
{{- end }}
{{- with .pod.volumes }}
{{ include "k8s-parsl.yaml" . }}
{{- end }}
{{- end -}}
