{{- /* The Ceph keys that this release provides, in NOTES. */ -}}
{{- define "k8s-parsl.cephKeyNotes" -}}
{{- if .Values.admin.create }}
{{- range $key, $volume := .Values.storage }}
{{- with ($volume).cephfs }}
{{- $context := dict "root" $ "key" $key "volume" $volume }}
{{- $namespace := include "k8s-parsl.cephSecretNamespace" $context }}
{{- if .secret.values }}

WARNING: the Ceph key of volume {{ $key }} is in the values, which is for development only.
`helm get values {{ $.Release.Name }}` shows it to all who may read Secrets in namespace {{ $.Release.Namespace }}.
{{- else if .secret.externalSecret }}

External Secrets Operator provides the Ceph key of volume {{ $key }}:
  kubectl -n {{ $namespace }} get externalsecret {{ include "k8s-parsl.cephKeyName" $context }}
{{- else if .secret.vault }}

{{ include "k8s-parsl.vaultNotes" $context }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "k8s-parsl.vaultNotes" -}}
{{- $auth := .volume.cephfs.secret.vault.auth -}}
{{- $namespace := include "k8s-parsl.cephSecretNamespace" . -}}
{{- $job := include "k8s-parsl.cephKeyJobName" . -}}
A Job copies the Ceph key of volume {{ .key }} from Vault. The last line of its log says whether it worked:
  kubectl -n {{ $namespace }} logs --tail=1 job/{{ $job }}
{{- if has ($auth.method | default "kubernetes") (list "kubernetes" "jwt") }}
In Vault, role {{ $auth.role }} must be bound to namespace {{ $namespace }} and ServiceAccount
{{ include "k8s-parsl.cephKeyName" . }} (audience {{ $auth.audience | default "vault" }}).
docs/admin/vault.md has the commands.
{{- end }}
After you have fixed an error in Vault, delete the Job; the next `helm upgrade` creates it again:
  kubectl -n {{ $namespace }} delete job {{ $job }}
{{- with .root.Values.imagePullSecrets }}
WARNING: the Secrets of imagePullSecrets must also exist in namespace {{ $namespace }}.
{{- end }}
{{- end -}}

{{- /* "yes" where Helm uses server-side apply by default, and so patches what it creates; or else empty. */ -}}
{{- define "k8s-parsl.serverSide" -}}
{{- if not (hasPrefix "v3." .Capabilities.HelmVersion.Version) -}}yes{{- end -}}
{{- end -}}

{{- /*
Helm 4's --wait lists Roles, for which some users have no permission; --wait=legacy only gets them by name.
*/ -}}
{{- define "k8s-parsl.uninstallWait" -}}
{{- if include "k8s-parsl.serverSide" . -}}
--wait=legacy
{{- else -}}
--wait
{{- end -}}
{{- end -}}

{{- /*
A new run.id for this release: the number of its next revision, or another text if that number is the present run.id.
*/ -}}
{{- define "k8s-parsl.nextId" -}}
{{- $next := add1 .Release.Revision | toString -}}
{{- if eq .Values.run.id $next -}}
{{- $next }}-again
{{- else -}}
{{- $next -}}
{{- end -}}
{{- end -}}

{{- /*
The volume with the workflow's code, as `<key> (<path>)`. Empty if the code comes from an image, files or git.
*/ -}}
{{- define "k8s-parsl.codeOnVolume" -}}
{{- $workflow := .Values.workflow -}}
{{- if not (or $workflow.files ($workflow.git).url) -}}
{{- range $key, $volume := .Values.storage -}}
{{- range $path := list $workflow.path $workflow.script -}}
{{- if and $volume (hasPrefix (printf "%s/" ($volume).mountPath) (printf "%s/" $path)) -}}
{{- printf "%s (%s)" $key $path -}}
{{- break -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* One command for each static volume of a two-part install, which is Released after its PVC was deleted. */ -}}
{{- define "k8s-parsl.volumesToFree" -}}
{{- if not .Values.admin.create -}}
{{- $patch := `'[{"op": "remove", "path": "/spec/claimRef/uid"}]'` -}}
{{- range $key, $volume := .Values.storage -}}
{{- $context := dict "root" $ "key" $key "volume" $volume -}}
{{- if and $volume (include "k8s-parsl.volumeSource" $context) }}
  kubectl patch persistentvolume {{ include "k8s-parsl.volumeName" $context }} --type json -p {{ $patch }}
{{- end }}
{{- end -}}
{{- end -}}
{{- end -}}
