{{- /*
The Job `k8s-parsl ceph-key`, which copies a Ceph user's key from Vault into the node-stage Secret of one volume. All
its objects are in that Secret's namespace. In the release's namespace, every user who may create pods could use the
Job's ServiceAccount (docs/dev/architecture.md, "The Ceph key").
*/ -}}

{{- /*
The files of its ConfigMap. Keys that the values leave out have defaults in launcher/k8s_parsl/ceph_key/settings.py.
*/ -}}
{{- define "k8s-parsl.cephKeyData" -}}
{{- $given := .volume.cephfs.secret.vault -}}
{{- $vault := omit $given "caBundle" "schedule" "adopt" "timeBudget" -}}
{{- $_ := set $vault "auth" (omit $given.auth "secretRef") -}}
{{- if $given.caBundle -}}
{{- $_ := set $vault "caFile" "/etc/k8s-parsl/ca.crt" -}}
{{- end -}}
ceph-key.yaml: |
  vault:
    {{- include "k8s-parsl.yaml" $vault | nindent 4 }}
  secret:
    name: {{ include "k8s-parsl.cephSecretName" . | quote }}
    namespace: {{ include "k8s-parsl.cephSecretNamespace" . | quote }}
    # Who may write it again: two releases do not fight over one Secret.
    owner: {{ printf "%s/%s" .root.Release.Namespace .root.Release.Name | quote }}
    labels:
      {{- include "k8s-parsl.selectorLabels" .root | nindent 6 }}
      app.kubernetes.io/component: ceph-key
  {{- with pick $given "adopt" "timeBudget" }}
  {{- include "k8s-parsl.yaml" . | nindent 2 }}
  {{- end }}
{{- with $given.caBundle }}
ca.crt: {{ toJson . }}
{{- end }}
{{- end -}}

{{- /*
The part of `pod` that makes sense in another namespace: nodes, network, user, and proxy variables with a plain value.
No field that names a PVC, Secret or ConfigMap, because those are in the release's namespace.
*/ -}}
{{- define "k8s-parsl.cephKeyPod" -}}
{{- $requests := dict "cpu" "50m" "memory" "96Mi" "ephemeral-storage" "16Mi" -}}
{{- $limits := dict "cpu" "1" "memory" "256Mi" "ephemeral-storage" "64Mi" -}}
{{- $resources := dict "requests" $requests "limits" $limits -}}
{{- $defaults := dict "terminationGracePeriodSeconds" 15 "resources" $resources -}}
{{- $shared := pick .Values.pod
      "affinity" "annotations" "dnsConfig" "dnsPolicy" "enableServiceLinks" "hostAliases" "hostUsers" "labels"
      "nodeSelector" "preemptionPolicy" "priorityClassName" "runtimeClassName" "schedulerName" "securityContext"
      "tolerations" -}}
{{- $names := include "k8s-parsl.proxyVariables" . | splitList " " -}}
{{- $proxies := list -}}
{{- range include "k8s-parsl.variables" (dict "env" .Values.pod.env "names" $names) | fromJsonArray -}}
{{- if .value -}}
{{- $proxies = append $proxies . -}}
{{- end -}}
{{- end -}}
{{- include "k8s-parsl.merged" (list $defaults $shared (dict "env" $proxies)) -}}
{{- end -}}

{{- /* The immutable part of the Job's spec; a CronJob's Jobs have the same. */ -}}
{{- define "k8s-parsl.cephKeySpec" -}}
{{- $auth := .volume.cephfs.secret.vault.auth -}}
{{- $pod := include "k8s-parsl.cephKeyPod" .root | fromJson -}}
{{- $labels := dict "k8s-parsl/ceph-key" (include "k8s-parsl.cephKeyName" .) -}}
{{- $context := dict "root" .root "pod" $pod "component" "ceph-key" "more" $labels -}}
podFailurePolicy:
  rules:
    # Errors that another try would repeat: usage, bad data, permission, configuration; not Vault sealed or down (69).
    - action: FailJob
      onExitCodes:
        containerName: ceph-key
        operator: In
        values: [64, 65, 77, 78]
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
template:
  metadata:
    labels:
      {{- include "k8s-parsl.podLabels" $context | nindent 6 }}
    {{- with $pod.annotations }}
    annotations:
      {{- include "k8s-parsl.yaml" . | nindent 6 }}
    {{- end }}
  spec:
    serviceAccountName: {{ include "k8s-parsl.cephKeyName" . | quote }}
    {{- include "k8s-parsl.podFields" $context | nindent 4 }}
    {{- with $pod.tolerations }}
    tolerations:
      {{- include "k8s-parsl.yaml" . | nindent 6 }}
    {{- end }}
    containers:
      - name: ceph-key
        args: [ceph-key]
        {{- include "k8s-parsl.ourContainerFields" (dict "root" $.root "resources" $pod.resources) | nindent 8 }}
        {{- with $pod.env }}
        env:
          {{- include "k8s-parsl.yaml" . | nindent 10 }}
        {{- end }}
        volumeMounts:
          - name: config
            mountPath: /etc/k8s-parsl
            readOnly: true
          - name: vault
            mountPath: /var/run/secrets/k8s-parsl/vault
            readOnly: true
          - name: kubernetes-api
            mountPath: /var/run/secrets/kubernetes.io/serviceaccount
            readOnly: true
          - name: tmp
            mountPath: /tmp
    volumes:
      - name: config
        configMap:
          name: {{ include "k8s-parsl.cephKeyConfigName" . }}
      {{- include "k8s-parsl.vaultCredential" $auth | nindent 6 }}
      {{- include "k8s-parsl.apiTokenVolume" . | nindent 6 }}
      - name: tmp
        emptyDir: {}
{{- end -}}

{{- /*
The Job's credential for Vault: a token for that audience only, or a key of an existing Secret. The mode is 0444,
because the Job does not run as root.
*/ -}}
{{- define "k8s-parsl.vaultCredential" -}}
- name: vault
  {{- with .secretRef }}
  secret:
    secretName: {{ .name | quote }}
    defaultMode: 0444
    items: [{key: {{ .key | quote }}, path: credential}]
  {{- else }}
  projected:
    sources:
      - serviceAccountToken:
          audience: {{ .audience | default "vault" | quote }}
          expirationSeconds: 600
          path: credential
  {{- end }}
{{- end -}}
