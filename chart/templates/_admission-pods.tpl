{{- /*
Rules for the launcher's pods. Each message begins with the fields that it is about. The variables contain what the
release's own workers use. The other rules are Pod Security's "restricted" of Kubernetes 1.37, for containers of
every kind, and apply even if the namespace does not enforce that profile:
https://kubernetes.io/docs/concepts/security/pod-security-standards/
*/ -}}
{{- define "k8s-parsl.admissionOfPods" -}}
{{- $parts := include "k8s-parsl.workerParts" . | fromJson -}}
matchConstraints:
  resourceRules:
    - {apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE, UPDATE]}
variables:
  - name: containers
    expression: >-
      object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([])
  - name: volumes
    expression: object.spec.?volumes.orValue([])
  - name: pod
    expression: object.spec.?securityContext.orValue({})
  - name: contexts
    expression: variables.containers.map(c, c.?securityContext.orValue({}))
  {{- range $name, $of := $parts }}
  - name: {{ $name }}
    expression: {{ $of | toJson | quote }}
  {{- end }}
  - name: beginnings
    expression: {{ .Values.admissionPolicy.images | default list | toJson | quote }}
validations:
  - message: "metadata.ownerReferences: a worker pod must be owned by the launcher pod that creates it"
    expression: >-
      object.metadata.?ownerReferences.orValue([]).size() == 1 && object.metadata.ownerReferences.all(o, o.kind == "Pod"
      && o.uid in request.userInfo.extra["authentication.kubernetes.io/pod-uid"])
  - message: "metadata.labels: a worker pod must have the labels of this release's workers"
    expression: >-
      object.metadata.?labels["app.kubernetes.io/component"].orValue("") == "worker"
      && object.metadata.?labels["app.kubernetes.io/instance"].orValue("") == {{ toJson .Release.Name }}
  - message: >-
      spec.serviceAccountName, automountServiceAccountToken: a worker pod must use the workers' ServiceAccount,
      without a token
    expression: >-
      object.spec.?serviceAccountName.orValue("") == {{ include "k8s-parsl.workerServiceAccountName" . | toJson }}
      && !object.spec.?automountServiceAccountToken.orValue(true)
  - message: "image: a worker pod may use only images of this release's workers and of admissionPolicy.images"
    expression: >-
      variables.containers.all(c, c.?image.orValue("") in variables.images || variables.beginnings.exists(b,
      c.image == b || (b.matches("[/:@]$") && c.image.startsWith(b))))
  - message: >-
      spec.volumes: a worker pod may use only volumes of this release's workers, and no kind that "restricted" forbids
    expression: >-
      variables.volumes.all(v, has(v.emptyDir) || has(v.downwardAPI)
      || (has(v.secret) && v.secret.?secretName.orValue("") in variables.secrets)
      || (has(v.configMap) && (v.configMap.name in variables.configMaps
      || v.configMap.name.startsWith({{ printf "%s-workflow-" .Release.Name | toJson }})))
      || (has(v.persistentVolumeClaim) && v.persistentVolumeClaim.claimName in variables.claims)
      || (has(v.image) && v.image.?reference.orValue("") in variables.imageVolumes)
      || {{ include "k8s-parsl.celProjectedVolume" . | nindent 6 | trim }}
      || {{ include "k8s-parsl.celCsiVolume" . | nindent 6 | trim }}
      || {{ include "k8s-parsl.celEphemeralVolume" . | nindent 6 | trim }})
  - message: >-
      volumeMounts, volumeDevices: a worker pod must mount a PVC as this release's workers do, with the same subPath
      and readOnly
    expression: >-
      variables.containers.all(c, c.?volumeMounts.orValue([]).all(m, variables.volumes.all(v, v.name != m.name
      || !has(v.persistentVolumeClaim) || {{ include "k8s-parsl.celMountOfWorkers" . | nindent 6 | trim }}))
      && c.?volumeDevices.orValue([]).all(d, variables.volumes.all(v, v.name != d.name
      || v.?persistentVolumeClaim.?claimName.orValue("") in variables.devices)))
  - message: "env, envFrom: a worker pod may use only Secrets and ConfigMaps of this release's workers"
    expression: >-
      variables.containers.all(c,
      c.?env.orValue([]).all(e, e.?valueFrom.?secretKeyRef.?name.orValue("") in variables.secrets + [""]
      && e.?valueFrom.?configMapKeyRef.?name.orValue("") in variables.configMaps + [""])
      && c.?envFrom.orValue([]).all(e, e.?secretRef.?name.orValue("") in variables.secrets + [""]
      && e.?configMapRef.?name.orValue("") in variables.configMaps + [""]))
  - message: >-
      spec.hostNetwork, hostPID, hostIPC, nodeName, hostPort, hostProcess: a worker pod must not share its node, nor
      choose it
    expression: >-
      !object.spec.?hostNetwork.orValue(false) && !object.spec.?hostPID.orValue(false)
      && !object.spec.?hostIPC.orValue(false) && object.spec.?nodeName.orValue("") == ""
      && variables.containers.all(c, c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0))
      && ([variables.pod] + variables.contexts).all(s, !s.?windowsOptions.?hostProcess.orValue(false))
  - message: >-
      livenessProbe, readinessProbe, startupProbe, lifecycle: a worker pod must not name a host for kubelet to call
    expression: >-
      variables.containers.all(c, [c.?livenessProbe, c.?readinessProbe, c.?startupProbe, c.?lifecycle.?postStart,
      c.?lifecycle.?preStop].all(h, h.?httpGet.?host.orValue("") == "" && h.?tcpSocket.?host.orValue("") == ""))
  - message: "securityContext.runAsNonRoot: a worker pod must not run as root"
    expression: >-
      variables.pod.?runAsNonRoot.orValue(true)
      && variables.contexts.all(s, s.?runAsNonRoot.orValue(variables.pod.?runAsNonRoot.orValue(false)))
  - message: "securityContext.runAsUser: a worker pod must run as the user of this release's workers, and not as root"
    expression: >-
      variables.pod.?runAsUser.orValue(-1) != 0
      && variables.contexts.all(s, s.?runAsUser.orValue(-1) != 0
      && s.?runAsUser.orValue(variables.pod.?runAsUser.orValue(-1)) in variables.users)
  - message: >-
      securityContext.runAsGroup, fsGroup, supplementalGroups: a worker pod may have only groups of this release's
      workers
    expression: >-
      variables.contexts.all(s, s.?runAsGroup.orValue(variables.pod.?runAsGroup.orValue(-1)) in variables.groups)
      && variables.pod.?fsGroup.orValue(-1) in variables.fsGroups
      && variables.pod.?supplementalGroups.orValue([]).all(g, g in variables.supplementalGroups)
  - message: "securityContext.privileged, allowPrivilegeEscalation: a worker pod must not be able to gain privileges"
    expression: >-
      variables.contexts.all(s, !s.?privileged.orValue(false) && !s.?allowPrivilegeEscalation.orValue(true))
  - message: "securityContext.capabilities: a worker pod must drop ALL and add none"
    expression: >-
      variables.contexts.all(s, s.?capabilities.?drop.orValue([]).exists(d, d == "ALL")
      && s.?capabilities.?add.orValue([]).size() == 0)
  - message: "securityContext.procMount: a worker pod must have Default"
    expression: variables.contexts.all(s, s.?procMount.orValue("Default") == "Default")
  - message: "securityContext.seccompProfile: a worker pod must have RuntimeDefault or Localhost"
    expression: >-
      variables.pod.?seccompProfile.?type.orValue("RuntimeDefault") in ["RuntimeDefault", "Localhost"]
      && variables.contexts.all(s, s.?seccompProfile.?type.orValue(variables.pod.?seccompProfile.?type.orValue("none"))
      in ["RuntimeDefault", "Localhost"])
  - message: >-
      securityContext.appArmorProfile, or its annotation: a worker pod may have only RuntimeDefault or Localhost
    expression: >-
      ([variables.pod] + variables.contexts).all(s,
      s.?appArmorProfile.?type.orValue("RuntimeDefault") in ["RuntimeDefault", "Localhost"])
      && object.metadata.?annotations.orValue({}).all(k,
      !k.startsWith("container.apparmor.security.beta.kubernetes.io/")
      || object.metadata.annotations[k] in ["", "runtime/default"]
      || object.metadata.annotations[k].startsWith("localhost/"))
  - message: "securityContext.seLinuxOptions: a worker pod may set only a type for containers, and no user or role"
    expression: >-
      ([variables.pod] + variables.contexts).all(s, s.?seLinuxOptions.?user.orValue("") == ""
      && s.?seLinuxOptions.?role.orValue("") == "" && s.?seLinuxOptions.?type.orValue("") in ["", "container_t",
      "container_init_t", "container_kvm_t", "container_engine_t"])
  - message: "securityContext.sysctls: a worker pod may set only safe sysctls"
    expression: >-
      variables.pod.?sysctls.orValue([]).all(s, s.name in
      {{ include "k8s-parsl.safeSysctls" . | fromYamlArray | toJson }})
  - message: >-
      spec.priorityClassName, runtimeClassName: a worker pod may use only this release's runtime class and system-
      priorities
    expression: >-
      object.spec.?runtimeClassName.orValue("") in variables.runtimeClasses + [""]
      && (!object.spec.?priorityClassName.orValue("").startsWith("system-")
      || object.spec.priorityClassName in variables.priorityClasses)
  - message: "spec.resourceClaims: a worker pod may use only resource claims of this release's workers"
    expression: >-
      object.spec.?resourceClaims.orValue([]).all(r, r.?resourceClaimName.orValue("") in variables.deviceClaims + [""]
      && r.?resourceClaimTemplateName.orValue("") in variables.deviceClaims + [""])
{{- end -}}

{{- /* CEL on a volume `v`: it is projected, and from objects that the release's workers may use. */ -}}
{{- define "k8s-parsl.celProjectedVolume" -}}
(has(v.projected) && "projected" in variables.kinds && v.projected.?sources.orValue([]).all(s,
has(s.downwardAPI) || has(s.clusterTrustBundle)
|| (has(s.secret) && s.secret.name in variables.secrets)
|| (has(s.configMap) && s.configMap.name in variables.configMaps)))
{{- end -}}

{{- /* CEL on a volume `v`: it is a CSI volume, with exactly the settings of one of the release's workers. */ -}}
{{- define "k8s-parsl.celCsiVolume" -}}
(has(v.csi) && variables.drivers.exists(d, sets.equivalent(d,
["driver=" + v.csi.driver, "secret=" + v.csi.?nodePublishSecretRef.?name.orValue("")]
+ v.csi.?volumeAttributes.orValue({}).map(k, k + ": " + v.csi.volumeAttributes[k]))))
{{- end -}}

{{- /* CEL on a volume `v`: it is ephemeral, empty at first, and of a StorageClass of the release's workers. */ -}}
{{- define "k8s-parsl.celEphemeralVolume" -}}
(has(v.ephemeral)
&& v.ephemeral.volumeClaimTemplate.spec.?storageClassName.orValue("") in variables.storageClasses
&& ["volumeName", "dataSource", "dataSourceRef"].all(f, !(f in v.ephemeral.volumeClaimTemplate.spec)))
{{- end -}}

{{- /* CEL on a mount `m` of a volume `v` of a PVC: one of the release's workers mounts it in the same way. */ -}}
{{- define "k8s-parsl.celMountOfWorkers" -}}
variables.mounts.exists(w, w.claim == v.persistentVolumeClaim.claimName
&& w.subPath == m.?subPath.orValue("") && w.subPathExpr == m.?subPathExpr.orValue("") && (w.readOnly == ""
|| m.?readOnly.orValue(false) || v.persistentVolumeClaim.?readOnly.orValue(false)))
{{- end -}}

{{- /* https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/#safe-and-unsafe-sysctls */ -}}
{{- define "k8s-parsl.safeSysctls" -}}
- kernel.shm_rmid_forced
- net.ipv4.ip_local_port_range
- net.ipv4.ip_local_reserved_ports
- net.ipv4.ip_unprivileged_port_start
- net.ipv4.ping_group_range
- net.ipv4.tcp_fin_timeout
- net.ipv4.tcp_keepalive_intvl
- net.ipv4.tcp_keepalive_probes
- net.ipv4.tcp_keepalive_time
- net.ipv4.tcp_notsent_lowat
- net.ipv4.tcp_rmem
- net.ipv4.tcp_slow_start_after_idle
- net.ipv4.tcp_syncookies
- net.ipv4.tcp_wmem
{{- end -}}
