{{- /* One template for each object's name; the objects and those who refer to them both call it. */ -}}

{{- /*
`<release>-<suffix>` in at most 63 characters (a label, a Job's name). Where that is too long, the release name gives
way and a hash of it keeps two long names apart: the suffix is what tells objects, and one run from the next.
*/ -}}
{{- define "k8s-parsl.name" -}}
{{- $release := .root.Release.Name -}}
{{- $room := sub 62 (len .suffix) | int -}}
{{- if gt (len $release) $room -}}
{{- $short := trunc (sub $room 7 | int) $release | regexFind "^.*[a-z0-9]" -}}
{{- $release = printf "%s-%s" $short (sha256sum $release | trunc 6) -}}
{{- end -}}
{{- printf "%s-%s" $release .suffix -}}
{{- end -}}

{{- /* The installation: never changes, so its uid tells this install from the one before (design D10). */ -}}
{{- define "k8s-parsl.installationName" -}}
{{- .Release.Name -}}
{{- end -}}

{{- define "k8s-parsl.settingsName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" (printf "settings-%s" (include "k8s-parsl.settingsData" . | sha256sum | trunc 8))) -}}
{{- end -}}

{{- define "k8s-parsl.workflowName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" (printf "workflow-%s" (toJson .Values.workflow.files | sha256sum | trunc 8))) -}}
{{- end -}}

{{- define "k8s-parsl.launcherName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" (printf "launcher-%s" (include "k8s-parsl.run" .))) -}}
{{- end -}}

{{- define "k8s-parsl.certificatesName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" "certificates") -}}
{{- end -}}

{{- define "k8s-parsl.roleName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" "launcher") -}}
{{- end -}}

{{- define "k8s-parsl.serviceAccountName" -}}
{{- $made := ternary (include "k8s-parsl.name" (dict "root" . "suffix" "launcher")) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $made -}}
{{- end -}}

{{- define "k8s-parsl.workerServiceAccountName" -}}
{{- $made := ternary (include "k8s-parsl.name" (dict "root" . "suffix" "worker")) "default" .Values.workerServiceAccount.create -}}
{{- .Values.workerServiceAccount.name | default $made -}}
{{- end -}}
