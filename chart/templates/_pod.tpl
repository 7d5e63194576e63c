{{- /* What the launcher's pod and the workers' pods have in common, so that they cannot disagree. */ -}}

{{- /* PodSpec fields: what every pod has, then all that the knobs hold under a PodSpec's own names. */ -}}
{{- define "k8s-parsl.podFields" -}}
restartPolicy: Never
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
{{- end }}
{{- with omit .pod "labels" "annotations" "image" "resources" "env" "envFrom" "volumeMounts" "sharedMemory" "containerSecurityContext" "initContainers" "containers" "volumes" "tolerations" }}
{{ include "k8s-parsl.yaml" . }}
{{- end }}
{{- end -}}

{{- /* Fields of a container in which the user's code runs, but for what tells the workflow's from a worker's. */ -}}
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
Fields of a container of our image; its resources are `launcher.resources`, or those given. Nothing that the values say of
the user's container reaches it but the securityContext that `pod` has for all.
*/ -}}
{{- define "k8s-parsl.ourContainerFields" -}}
{{- $own := dict "resources" (.resources | default .root.Values.launcher.resources) -}}
{{- $fields := include "k8s-parsl.knobs" (list (pick .root.Values.pod "containerSecurityContext") $own) | fromJson -}}
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

{{- /* Text of the values in a command, an argument or a variable: kubelet reads `$$` as `$`, and `$(X)` as X's value. */ -}}
{{- define "k8s-parsl.literal" -}}
{{- replace "$" "$$" . -}}
{{- end -}}

{{- /* Variables of a container in which the user's code runs. */ -}}
{{- define "k8s-parsl.userEnv" -}}
{{- $ours := dict "HOME" "/tmp" "PYTHONPATH" (include "k8s-parsl.literal" .root.Values.workflow.path) "PYTHONUNBUFFERED" "1" -}}
{{- include "k8s-parsl.env" (dict "ours" $ours "given" .pod.env) -}}
{{- end -}}

{{- /* Variables: `ours` by name, but for those that are in the list `given`, too; then `given`. */ -}}
{{- define "k8s-parsl.env" -}}
{{- $names := list -}}
{{- range .given -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range $name, $value := .ours -}}
{{- if not (has $name $names) }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- with .given }}
{{ include "k8s-parsl.yaml" . }}
{{- end }}
{{- end -}}
