{{- /* The facts about its release, run and pod that the launcher reads in launcher/k8s_parsl/identity.py. */ -}}
{{- define "k8s-parsl.identityEnv" -}}
- name: K8S_PARSL_RELEASE
  value: {{ .root.Release.Name | quote }}
- name: K8S_PARSL_INSTALLATION
  value: {{ include "k8s-parsl.installationName" .root | quote }}
- name: K8S_PARSL_CERTIFICATES
  value: {{ .certificates }}
- name: K8S_PARSL_RUN
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['k8s-parsl/run']"}}
- name: K8S_PARSL_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: K8S_PARSL_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: K8S_PARSL_POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: K8S_PARSL_POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: K8S_PARSL_WORKFLOW_UID
  value: {{ include "k8s-parsl.workflowUid" . | quote }}
- name: K8S_PARSL_GRACE
  value: {{ dig "terminationGracePeriodSeconds" 30 .pod | int64 | quote }}
{{- end -}}

{{- /* The uid of the workflow container, which may use the socket. Empty if the image decides on the user. */ -}}
{{- define "k8s-parsl.workflowUid" -}}
{{- $uid := dig "securityContext" "runAsUser" nil .pod -}}
{{- $uid = dig "containerSecurityContext" "runAsUser" $uid .pod -}}
{{- if not (kindIs "invalid" $uid) -}}
{{- int64 $uid -}}
{{- end -}}
{{- end -}}

{{- /*
The volume that kubelet mounts into every container of a pod where automountServiceAccountToken is true. Here it is
mounted into one container.
*/ -}}
{{- define "k8s-parsl.apiTokenVolume" -}}
- name: kubernetes-api
  projected:
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end -}}
