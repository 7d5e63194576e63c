{{- /*
What the pods of launcher, workers and ceph-key have in common. The context of these templates: `root`, and `pod`, the
merged values of this kind of pod.
*/ -}}

{{- /* The fields of a PodSpec: those that every pod has, then those of `pod` that other templates do not write. */ -}}
{{- define "k8s-parsl.podFields" -}}
restartPolicy: Never
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
{{- end }}
{{- $ofMetadata := list "labels" "annotations" }}
{{- $ofContainer := list "image" "resources" "env" "envFrom" "volumeMounts" "sharedMemory" "containerSecurityContext" }}
{{- $lists := list "initContainers" "containers" "volumes" "tolerations" }}
{{- $fields := .pod }}
{{- range concat $ofMetadata $ofContainer $lists }}
{{- $fields = omit $fields . }}
{{- end }}
{{- with $fields }}
{{ include "k8s-parsl.yaml" . }}
{{- end }}
{{- end -}}

{{- /* The fields that the containers with the user's code, `workflow` and `worker`, have in common. */ -}}
{{- define "k8s-parsl.userContainerFields" -}}
image: {{ include "k8s-parsl.userImage" . | quote }}
imagePullPolicy: {{ include "k8s-parsl.userPullPolicy" . }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with .pod.containerSecurityContext }}
securityContext:
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
{{- end }}
{{- with .pod.resources }}
resources:
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
{{- end }}
{{- with .pod.envFrom }}
envFrom:
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /*
The fields of a container of our image. Its resources are `resources`, or else launcher.resources. It uses only one of
the values for the user's containers, pod.containerSecurityContext.
*/ -}}
{{- define "k8s-parsl.ourContainerFields" -}}
{{- $security := pick .root.Values.pod "containerSecurityContext" -}}
{{- $resources := dict "resources" (.resources | default .root.Values.launcher.resources) -}}
{{- $fields := include "k8s-parsl.merged" (list $security $resources) | fromJson -}}
image: {{ include "k8s-parsl.launcherImage" .root | quote }}
imagePullPolicy: {{ .root.Values.launcher.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with $fields.containerSecurityContext }}
securityContext:
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
{{- end }}
{{- with $fields.resources }}
resources:
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /*
A text of the values in a command, argument or environment variable: kubelet expands `$(X)`, and reads `$$` as `$`.
*/ -}}
{{- define "k8s-parsl.literal" -}}
{{- replace "$" "$$" . -}}
{{- end -}}

{{- /* The environment variables of a container with the user's code. */ -}}
{{- define "k8s-parsl.userEnv" -}}
{{- $path := include "k8s-parsl.literal" .root.Values.workflow.path -}}
{{- $ours := dict "HOME" "/tmp" "PYTHONPATH" $path "PYTHONUNBUFFERED" "1" -}}
{{- include "k8s-parsl.env" (dict "ours" $ours "given" .pod.env) -}}
{{- end -}}

{{- /* Environment variables: the map `ours`, without the names that the list `given` has, then `given`. */ -}}
{{- define "k8s-parsl.env" -}}
{{- $ours := .ours -}}
{{- range .given -}}
{{- $ours = omit $ours .name -}}
{{- end -}}
{{- range $name, $value := $ours }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .given }}
{{ include "k8s-parsl.yaml" . }}
{{- end }}
{{- end -}}
