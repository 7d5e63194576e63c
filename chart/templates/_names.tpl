{{- /* One template for each object's name; the objects and those who refer to them both call it. */ -}}

{{- /*
`<release>-<suffix>` in at most 63 characters (a label, a Job's name). Where that is too long, the release
name gives way and a hash of it keeps two long names apart: the suffix is what tells objects, and one run from the next.
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
`<base>-<suffix>-<hash>` in at most `most` characters, for what is outside of the release's namespace: there, other
namespaces' releases have theirs. Hyphens alone would not tell release `c` of namespace `a-b` from `b-c` of `a`; the hash of
the list `of` does, which says apart what `base` joins. Where there is no room, `base` gives way.
*/ -}}
{{- define "k8s-parsl.outsideName" -}}
{{- $end := list .suffix (.of | toJson | sha256sum | trunc 8) | compact | join "-" -}}
{{- $room := sub .most (len $end | add1) | int -}}
{{- printf "%s-%s" (trunc $room .base | regexFind "^.*[a-z0-9]") $end -}}
{{- end -}}

{{- /* The installation: never changes, so its uid tells this install from the one before (docs/dev/architecture.md, "Installation and run"). */ -}}
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
{{- include "k8s-parsl.name" (dict "root" .root "suffix" (printf "launcher-%s" .run)) -}}
{{- end -}}

{{- define "k8s-parsl.certificatesName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" "certificates") -}}
{{- end -}}

{{- /* Of `helm test`, which may run beside the launcher: what it has of its own ends in this. */ -}}
{{- define "k8s-parsl.testName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" "test") -}}
{{- end -}}

{{- define "k8s-parsl.testCertificatesName" -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" "certificates-test") -}}
{{- end -}}

{{- /*
What makes the node-stage Secret of a volume, in that Secret's namespace. 52 characters, so that a CronJob has room for the
11 of its Jobs.
*/ -}}
{{- define "k8s-parsl.cephKeyName" -}}
{{- $release := .root.Release -}}
{{- $base := printf "%s-%s" $release.Namespace $release.Name -}}
{{- $of := list $release.Namespace $release.Name .key -}}
{{- include "k8s-parsl.outsideName" (dict "base" $base "suffix" (printf "ceph-key-%s" .key) "of" $of "most" 52) -}}
{{- end -}}

{{- define "k8s-parsl.cephKeyConfigName" -}}
{{- printf "%s-%s" (include "k8s-parsl.cephKeyName" .) (include "k8s-parsl.cephKeyData" . | sha256sum | trunc 8) -}}
{{- end -}}

{{- /* As the launcher's, with a hash of all of the Job that no `helm upgrade` could change (docs/dev/architecture.md, "Installation and run"). */ -}}
{{- define "k8s-parsl.cephKeyJobName" -}}
{{- $hash := include "k8s-parsl.cephKeySpec" . | fromYaml | toJson | sha256sum | trunc 8 -}}
{{- printf "%s-%s" (include "k8s-parsl.cephKeyName" .) $hash -}}
{{- end -}}

{{- /* With a hash of what it grants, and to whom: other rules are another Role, as users may not change one everywhere. */ -}}
{{- define "k8s-parsl.roleName" -}}
{{- $rules := include "k8s-parsl.launcherRules" . | fromYamlArray | toJson -}}
{{- $hash := printf "%s %s" $rules (include "k8s-parsl.serviceAccountName" .) | sha256sum | trunc 8 -}}
{{- include "k8s-parsl.name" (dict "root" . "suffix" (printf "launcher-%s" $hash)) -}}
{{- end -}}

{{- define "k8s-parsl.serviceAccountName" -}}
{{- $made := ternary (include "k8s-parsl.name" (dict "root" . "suffix" "launcher")) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $made -}}
{{- end -}}

{{- define "k8s-parsl.workerServiceAccountName" -}}
{{- $made := ternary (include "k8s-parsl.name" (dict "root" . "suffix" "worker")) "default" .Values.workerServiceAccount.create -}}
{{- .Values.workerServiceAccount.name | default $made -}}
{{- end -}}
