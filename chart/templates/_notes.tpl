{{- /*
What a pod waits for, where none of our code runs yet: kubelet's reason (image), the scheduler's (no room, missing
claim), and at the end the launcher's last line. One line for each pod.
*/ -}}
{{- define "k8s-parsl.whyWaiting" -}}
kubectl --namespace {{ .namespace }} get pods --selector batch.kubernetes.io/job-name={{ .job }} --output jsonpath='
{{- "{range .items[*]}{.metadata.name}{\": \"}{.status.phase}{\" \"}" -}}
{{- "{.status.initContainerStatuses[*].state.waiting.reason}{\" \"}{.status.initContainerStatuses[*].state.*.message}{\" \"}" -}}
{{- "{.status.containerStatuses[*].state.*.reason}{\" \"}{.status.containerStatuses[*].state.*.message}{\" \"}" -}}
{{- "{.status.conditions[?(@.status==\"False\")].message}{\"\\n\"}{end}" -}}
'
{{- end -}}

{{- /* What NOTES say of each Ceph key that this release sees to. */ -}}
{{- define "k8s-parsl.cephKeyNotes" -}}
{{- if .Values.admin.create }}
{{- range $key, $volume := .Values.storage }}
{{- $context := dict "root" $ "key" $key "volume" $volume }}
{{- with ($volume).cephfs }}
{{- $namespace := include "k8s-parsl.cephSecretNamespace" $context }}
{{- if .secret.values }}

THE CEPH KEY OF VOLUME {{ $key }} IS IN THE VALUES, for development: `helm get values {{ $.Release.Name }}` shows it to whoever
may read Secrets in namespace {{ $.Release.Namespace }}.
{{- else if .secret.externalSecret }}

The Ceph key of volume {{ $key }} is the External Secrets Operator's to bring:
  kubectl --namespace {{ $namespace }} get externalsecret {{ include "k8s-parsl.cephKeyName" $context }}
{{- else if .secret.vault }}

{{ include "k8s-parsl.vaultNotes" (dict "root" $ "context" $context "namespace" $namespace "vault" .secret.vault) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "k8s-parsl.vaultNotes" -}}
{{- $account := include "k8s-parsl.cephKeyName" .context -}}
{{- $job := include "k8s-parsl.cephKeyJobName" .context -}}
{{- $auth := .vault.auth -}}
{{- $method := $auth.method | default "kubernetes" -}}
The Ceph key of volume {{ .context.key }} comes from Vault. How that went, in one line:
  kubectl --namespace {{ .namespace }} logs --tail=1 job/{{ $job }}
{{- if has $method (list "kubernetes" "jwt") }}
Vault's role {{ $auth.role }} is to be bound to namespace {{ .namespace }} and service account {{ $account }}
(audience {{ $auth.audience | default "vault" }}); docs/admin/vault.md has the commands.
{{- end }}
After a refusal that was mended in Vault, this and a `helm upgrade` make it try again:
  kubectl --namespace {{ .namespace }} delete job {{ $job }}
{{- with .root.Values.imagePullSecrets }}
The image's pull secrets are needed in namespace {{ $.namespace }}, too.
{{- end }}
{{- end -}}

{{- /* Not empty with a Helm that applies on the server's side by default, so wants to patch what it makes. */ -}}
{{- define "k8s-parsl.serverSide" -}}
{{- if not (hasPrefix "v3." .Capabilities.HelmVersion.Version) -}}yes{{- end -}}
{{- end -}}

{{- /* Helm 4's own way to wait wants to list Roles, which not everybody may who may delete them; the old way only gets. */ -}}
{{- define "k8s-parsl.uninstallWait" -}}
{{- ternary "--wait=legacy" "--wait" (not (empty (include "k8s-parsl.serverSide" .))) -}}
{{- end -}}

{{- /* An id that this release has not had: the number of its next revision, but where that is the present one. */ -}}
{{- define "k8s-parsl.nextId" -}}
{{- $next := add1 .Release.Revision | toString -}}
{{- ternary (printf "%s-again" $next) $next (eq .Values.run.id $next) -}}
{{- end -}}

{{- /* The volume that holds the workflow's code, where one does: neither in an image nor from files or git. */ -}}
{{- define "k8s-parsl.codeOnVolume" -}}
{{- $given := or .Values.workflow.files (.Values.workflow.git).url -}}
{{- $places := list .Values.workflow.path .Values.workflow.script -}}
{{- range $key, $volume := ternary dict .Values.storage (not (empty $given)) -}}
{{- range $place := $places -}}
{{- if and $volume (hasPrefix (printf "%s/" ($volume).mountPath) (printf "%s/" $place)) -}}
{{- printf "%s (%s)" $key $place -}}
{{- break -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Of the other half: static volumes, which stay Released when their claims go. One command each. */ -}}
{{- define "k8s-parsl.volumesToFree" -}}
{{- range $key, $volume := ternary dict .Values.storage .Values.admin.create -}}
{{- $context := dict "root" $ "key" $key "volume" $volume -}}
{{- if and $volume (include "k8s-parsl.volumeSource" $context) }}
  kubectl patch persistentvolume {{ include "k8s-parsl.volumeName" $context }} --type json -p '[{"op": "remove", "path": "/spec/claimRef/uid"}]'
{{- end }}
{{- end -}}
{{- end -}}
