{{- /* The name of each object has one template, which the object and everything that refers to it include. */ -}}

{{- /*
`<release>-<suffix>` in at most 63 characters, as for a label or a Job's name. It cuts a release name that is too long
and adds a hash of it. It never cuts the suffix, which distinguishes objects and runs.
*/ -}}
{{- define "k8s-parsl.name" -}}
{{- $release := .root.Release.Name -}}
{{- $room := sub 63 (len .suffix | add1) | int -}}
{{- if gt (len $release) $room -}}
{{- $short := trunc (sub $room 7 | int) $release | regexFind "^.*[a-z0-9]" -}}
{{- $release = printf "%s-%s" $short (sha256sum $release | trunc 6) -}}
{{- end -}}
{{- printf "%s-%s" $release .suffix -}}
{{- end -}}

{{- /*
`<base>-<suffix>-<hash>` in at most `most` characters, for an object outside the release's namespace, where releases of
other namespaces have objects too. Hyphens alone do not distinguish release `c` in namespace `a-b` from release `b-c` in
`a`; the hash of the list `of` does. It cuts a `base` that is too long.
*/ -}}
{{- define "k8s-parsl.outsideName" -}}
{{- $end := list .suffix (.of | toJson | sha256sum | trunc 8) | compact | join "-" -}}
{{- $room := sub .most (len $end | add1) | int -}}
{{- printf "%s-%s" (trunc $room .base | regexFind "^.*[a-z0-9]") $end -}}
{{- end -}}

{{- /*
The ConfigMap of the installation. Its name never changes, so its uid identifies this installation
(docs/dev/architecture.md, "Installation and run").
*/ -}}
{{- define "k8s-parsl.installationName" -}}
{{- .Release.Name -}}
{{- end -}}

{{- define "k8s-parsl.settingsName" -}}
{{- $hash := include "k8s-parsl.settingsData" . | sha256sum | trunc 8 -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" (printf "settings-%s" $hash)) -}}
{{- end -}}

{{- define "k8s-parsl.workflowName" -}}
{{- $hash := toJson .Values.workflow.files | sha256sum | trunc 8 -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" (printf "workflow-%s" $hash)) -}}
{{- end -}}

{{- define "k8s-parsl.launcherName" -}}
{{- include "k8s-parsl.name" (dict "root" .root "suffix" (printf "launcher-%s" .run)) -}}
{{- end -}}

{{- define "k8s-parsl.certificatesName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" "certificates") -}}
{{- end -}}

{{- /*
`helm test` may run beside the launcher, so its pod, settings and certificates have other names.
*/ -}}
{{- define "k8s-parsl.testName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" "test") -}}
{{- end -}}

{{- define "k8s-parsl.testCertificatesName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" "certificates-test") -}}
{{- end -}}

{{- /*
The name of the objects that create the node-stage Secret of a volume, in the Secret's namespace. At most 52 characters,
because the names of a CronJob's Jobs have 11 more.
*/ -}}
{{- define "k8s-parsl.cephKeyName" -}}
{{- $release := .root.Release -}}
{{- $base := printf "%s-%s" $release.Namespace $release.Name -}}
{{- $suffix := printf "ceph-key-%s" .key -}}
{{- $of := list $release.Namespace $release.Name .key -}}
{{- include "k8s-parsl.outsideName" (dict "base" $base "suffix" $suffix "of" $of "most" 52) -}}
{{- end -}}

{{- define "k8s-parsl.cephKeyConfigName" -}}
{{- printf "%s-%s" (include "k8s-parsl.cephKeyName" .) (include "k8s-parsl.cephKeyData" . | sha256sum | trunc 8) -}}
{{- end -}}

{{- /* It ends in a hash of the immutable part of the Job's spec, like the name of the launcher's Job. */ -}}
{{- define "k8s-parsl.cephKeyJobName" -}}
{{- $hash := include "k8s-parsl.cephKeySpec" . | fromYaml | toJson | sha256sum | trunc 8 -}}
{{- printf "%s-%s" (include "k8s-parsl.cephKeyName" .) $hash -}}
{{- end -}}

{{- /*
It ends in a hash of the Role's rules and its ServiceAccount. Other rules give another Role, because on some clusters
users may create a Role but not change it.
*/ -}}
{{- define "k8s-parsl.roleName" -}}
{{- $rules := include "k8s-parsl.launcherRules" . | fromYamlArray | toJson -}}
{{- $account := include "k8s-parsl.serviceAccountName" . -}}
{{- $hash := printf "%s %s" $rules $account | sha256sum | trunc 8 -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" (printf "launcher-%s" $hash)) -}}
{{- end -}}

{{- define "k8s-parsl.serviceAccountName" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" "launcher") -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{- define "k8s-parsl.workerServiceAccountName" -}}
{{- if .Values.workerServiceAccount.name -}}
{{- .Values.workerServiceAccount.name -}}
{{- else if .Values.workerServiceAccount.create -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" "worker") -}}
{{- else -}}
default
{{- end -}}
{{- end -}}
