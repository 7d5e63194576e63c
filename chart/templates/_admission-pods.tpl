{{- /*
Rules for the launcher's pods, each message beginning with the fields that it is about. What the release's own workers
have is in the variables. The rest is Pod Security's "restricted", of Kubernetes 1.37, for every container of any kind:
https://kubernetes.io/docs/concepts/security/pod-security-standards/ . It holds whatever the namespace enforces.
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
    expression: {{ .Values.admissionPolicy.images | toJson | quote }}
validations:
  - message: "metadata.ownerReferences: the launcher's pods are owned by the launcher pod whose token it is"
    expression: >-
      object.metadata.?ownerReferences.orValue([]).size() == 1 && object.metadata.ownerReferences.all(o, o.kind == "Pod"
      && o.uid in request.userInfo.extra["authentication.kubernetes.io/pod-uid"])
  - message: "metadata.labels: the launcher's pods are workers of its release"
    expression: >-
      object.metadata.?labels["app.kubernetes.io/component"].orValue("") == "worker"
      && object.metadata.?labels["app.kubernetes.io/instance"].orValue("") == {{ toJson .Release.Name }}
  - message: "spec.serviceAccountName, automountServiceAccountToken: the launcher's pods have the workers' account, and no token of it"
    expression: >-
      object.spec.?serviceAccountName.orValue("") == {{ include "k8s-parsl.workerServiceAccountName" . | toJson }}
      && !object.spec.?automountServiceAccountToken.orValue(true)
  - message: "image: the launcher's pods have images of its release alone (admissionPolicy.images takes more)"
    expression: >-
      variables.containers.all(c, c.?image.orValue("") in variables.images || variables.beginnings.exists(b,
      c.image == b || (b.matches("[/:@]$") && c.image.startsWith(b))))
  - message: "spec.volumes: the launcher's pods have volumes of its release alone, and of no kind that restricted forbids"
    expression: >-
      variables.volumes.all(v, has(v.emptyDir) || has(v.downwardAPI)
      || (has(v.secret) && v.secret.?secretName.orValue("") in variables.secrets)
      || (has(v.configMap) && (v.configMap.name in variables.configMaps
      || v.configMap.name.startsWith({{ printf "%s-workflow-" .Release.Name | toJson }})))
      || (has(v.persistentVolumeClaim) && v.persistentVolumeClaim.claimName in variables.claims)
      || (has(v.image) && v.image.?reference.orValue("") in variables.imageVolumes)
      || (has(v.projected) && "projected" in variables.kinds && v.projected.?sources.orValue([]).all(s,
      has(s.downwardAPI) || has(s.clusterTrustBundle)
      || (has(s.secret) && s.secret.name in variables.secrets)
      || (has(s.configMap) && s.configMap.name in variables.configMaps)))
      || (has(v.csi) && variables.drivers.exists(d, sets.equivalent(d,
      ["driver=" + v.csi.driver, "secret=" + v.csi.?nodePublishSecretRef.?name.orValue("")]
      + v.csi.?volumeAttributes.orValue({}).map(k, k + ": " + v.csi.volumeAttributes[k]))))
      || (has(v.ephemeral) && v.ephemeral.volumeClaimTemplate.spec.?storageClassName.orValue("") in variables.storageClasses
      && ["volumeName", "dataSource", "dataSourceRef"].all(f, !(f in v.ephemeral.volumeClaimTemplate.spec))))
  - message: "volumeMounts, volumeDevices: of a claim the launcher's pods mount what its release's workers mount, the same subPath, and readOnly where that is"
    expression: >-
      variables.containers.all(c, c.?volumeMounts.orValue([]).all(m, variables.volumes.all(v, v.name != m.name
      || !has(v.persistentVolumeClaim) || variables.mounts.exists(w, w.claim == v.persistentVolumeClaim.claimName
      && w.subPath == m.?subPath.orValue("") && w.subPathExpr == m.?subPathExpr.orValue("") && (w.readOnly == ""
      || m.?readOnly.orValue(false) || v.persistentVolumeClaim.?readOnly.orValue(false)))))
      && c.?volumeDevices.orValue([]).all(d, variables.volumes.all(v, v.name != d.name
      || v.?persistentVolumeClaim.?claimName.orValue("") in variables.devices)))
  - message: "env, envFrom: the launcher's pods have variables of its release's Secrets and ConfigMaps alone"
    expression: >-
      variables.containers.all(c,
      c.?env.orValue([]).all(e, e.?valueFrom.?secretKeyRef.?name.orValue("") in variables.secrets + [""]
      && e.?valueFrom.?configMapKeyRef.?name.orValue("") in variables.configMaps + [""])
      && c.?envFrom.orValue([]).all(e, e.?secretRef.?name.orValue("") in variables.secrets + [""]
      && e.?configMapRef.?name.orValue("") in variables.configMaps + [""]))
  - message: "spec.hostNetwork, hostPID, hostIPC, nodeName, hostPort, hostProcess: the launcher's pods share nothing with their node, and the scheduler chooses it"
    expression: >-
      !object.spec.?hostNetwork.orValue(false) && !object.spec.?hostPID.orValue(false)
      && !object.spec.?hostIPC.orValue(false) && object.spec.?nodeName.orValue("") == ""
      && variables.containers.all(c, c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0))
      && ([variables.pod] + variables.contexts).all(s, !s.?windowsOptions.?hostProcess.orValue(false))
  - message: "livenessProbe, readinessProbe, startupProbe, lifecycle: the launcher's pods name no host for kubelet to reach"
    expression: >-
      variables.containers.all(c, [c.?livenessProbe, c.?readinessProbe, c.?startupProbe, c.?lifecycle.?postStart,
      c.?lifecycle.?preStop].all(h, h.?httpGet.?host.orValue("") == "" && h.?tcpSocket.?host.orValue("") == ""))
  - message: "securityContext.runAsNonRoot: the launcher's pods never run as root"
    expression: >-
      variables.pod.?runAsNonRoot.orValue(true)
      && variables.contexts.all(s, s.?runAsNonRoot.orValue(variables.pod.?runAsNonRoot.orValue(false)))
  - message: "securityContext.runAsUser: the launcher's pods run as the user of its release's workers, and never as root"
    expression: >-
      variables.pod.?runAsUser.orValue(-1) != 0
      && variables.contexts.all(s, s.?runAsUser.orValue(-1) != 0
      && s.?runAsUser.orValue(variables.pod.?runAsUser.orValue(-1)) in variables.users)
  - message: "securityContext.runAsGroup, fsGroup, supplementalGroups: the launcher's pods have the groups of its release's workers alone"
    expression: >-
      variables.contexts.all(s, s.?runAsGroup.orValue(variables.pod.?runAsGroup.orValue(-1)) in variables.groups)
      && variables.pod.?fsGroup.orValue(-1) in variables.fsGroups
      && variables.pod.?supplementalGroups.orValue([]).all(g, g in variables.supplementalGroups)
  - message: "securityContext.privileged, allowPrivilegeEscalation: the launcher's pods cannot become another user"
    expression: >-
      variables.contexts.all(s, !s.?privileged.orValue(false) && !s.?allowPrivilegeEscalation.orValue(true))
  - message: "securityContext.capabilities: the launcher's pods drop ALL and add none"
    expression: >-
      variables.contexts.all(s, s.?capabilities.?drop.orValue([]).exists(d, d == "ALL")
      && s.?capabilities.?add.orValue([]).size() == 0)
  - message: "securityContext.procMount: the launcher's pods have the Default one"
    expression: variables.contexts.all(s, s.?procMount.orValue("Default") == "Default")
  - message: "securityContext.seccompProfile: the launcher's pods have a seccomp profile, RuntimeDefault or Localhost"
    expression: >-
      variables.pod.?seccompProfile.?type.orValue("RuntimeDefault") in ["RuntimeDefault", "Localhost"]
      && variables.contexts.all(s, s.?seccompProfile.?type.orValue(variables.pod.?seccompProfile.?type.orValue("none"))
      in ["RuntimeDefault", "Localhost"])
  - message: "securityContext.appArmorProfile, or its annotation: the launcher's pods have RuntimeDefault, Localhost or none of their own"
    expression: >-
      ([variables.pod] + variables.contexts).all(s,
      s.?appArmorProfile.?type.orValue("RuntimeDefault") in ["RuntimeDefault", "Localhost"])
      && object.metadata.?annotations.orValue({}).all(k, !k.startsWith("container.apparmor.security.beta.kubernetes.io/")
      || object.metadata.annotations[k] in ["", "runtime/default"]
      || object.metadata.annotations[k].startsWith("localhost/"))
  - message: "securityContext.seLinuxOptions: the launcher's pods name a type of containers, and no user or role"
    expression: >-
      ([variables.pod] + variables.contexts).all(s, s.?seLinuxOptions.?user.orValue("") == ""
      && s.?seLinuxOptions.?role.orValue("") == "" && s.?seLinuxOptions.?type.orValue("") in ["", "container_t",
      "container_init_t", "container_kvm_t", "container_engine_t"])
  - message: "securityContext.sysctls: the launcher's pods set none but the safe ones"
    expression: >-
      variables.pod.?sysctls.orValue([]).all(s, s.name in {{ include "k8s-parsl.safeSysctls" . | fromYamlArray | toJson }})
  - message: "spec.priorityClassName, runtimeClassName: the launcher's pods have priority and runtime class of its release alone"
    expression: >-
      object.spec.?runtimeClassName.orValue("") in variables.runtimeClasses + [""]
      && (!object.spec.?priorityClassName.orValue("").startsWith("system-")
      || object.spec.priorityClassName in variables.priorityClasses)
  - message: "spec.resourceClaims: the launcher's pods have devices of its release's claims alone"
    expression: >-
      object.spec.?resourceClaims.orValue([]).all(r, r.?resourceClaimName.orValue("") in variables.deviceClaims + [""]
      && r.?resourceClaimTemplateName.orValue("") in variables.deviceClaims + [""])
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
