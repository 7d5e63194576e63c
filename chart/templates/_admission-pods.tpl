{{- /*
Rules for the launcher's pods. Lists are JSON, which CEL reads, too. Of security contexts, what Pod Security's
"restricted" asks for, whatever the namespace enforces.
*/ -}}
{{- define "k8s-parsl.admissionOfPods" -}}
{{- $parts := include "k8s-parsl.workerParts" . | fromJson -}}
matchConstraints:
  resourceRules:
    - {apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE, UPDATE]}
variables:
  - name: containers
    expression: object.spec.containers + object.spec.?initContainers.orValue([])
  - name: images
    expression: {{ $parts.images | toJson | squote }}
  - name: beginnings
    expression: {{ .Values.admissionPolicy.images | toJson | squote }}
  - name: secrets
    expression: {{ $parts.secrets | toJson | squote }}
  - name: configMaps
    expression: {{ $parts.configMaps | toJson | squote }}
  - name: users
    expression: {{ $parts.users | toJson | squote }}
validations:
  - message: the launcher's pods are owned by the launcher pod whose token it is
    expression: >-
      object.metadata.?ownerReferences.orValue([]).size() == 1 && object.metadata.ownerReferences.all(o, o.kind == "Pod"
      && o.uid in request.userInfo.extra["authentication.kubernetes.io/pod-uid"])
  - message: the launcher's pods are workers of its release, by their labels
    expression: >-
      object.metadata.?labels["app.kubernetes.io/component"].orValue("") == "worker"
      && object.metadata.?labels["app.kubernetes.io/instance"].orValue("") == {{ toJson .Release.Name }}
  - message: the launcher's pods have the workers' account, and no token of it
    expression: >-
      object.spec.?serviceAccountName.orValue("") == {{ include "k8s-parsl.workerServiceAccountName" . | toJson }}
      && !object.spec.?automountServiceAccountToken.orValue(true)
  - message: the launcher's pods have images of its release alone (admissionPolicy.images takes more)
    expression: >-
      variables.containers.all(c, c.?image.orValue("") in variables.images || variables.beginnings.exists(b,
      c.image == b || (b.matches("[/:@]$") && c.image.startsWith(b))))
  - message: the launcher's pods have volumes of its release alone
    expression: >-
      object.spec.?volumes.orValue([]).all(v, has(v.emptyDir) || has(v.downwardAPI)
      || (has(v.secret) && v.secret.?secretName.orValue("") in variables.secrets)
      || (has(v.configMap) && (v.configMap.name in variables.configMaps
      || v.configMap.name.startsWith({{ printf "%s-workflow-" .Release.Name | toJson }})))
      || (has(v.persistentVolumeClaim) && v.persistentVolumeClaim.claimName in {{ toJson $parts.claims }})
      {{- range $condition, $_ := $parts.others }}
      || ({{ $condition }})
      {{- end }})
  - message: the launcher's pods have variables of its release's Secrets and ConfigMaps alone
    expression: >-
      variables.containers.all(c,
      c.?env.orValue([]).all(e, e.?valueFrom.?secretKeyRef.?name.orValue("") in variables.secrets + [""]
      && e.?valueFrom.?configMapKeyRef.?name.orValue("") in variables.configMaps + [""])
      && c.?envFrom.orValue([]).all(e, e.?secretRef.?name.orValue("") in variables.secrets + [""]
      && e.?configMapRef.?name.orValue("") in variables.configMaps + [""]))
  - message: the launcher's pods share nothing with their node, and the scheduler chooses it
    expression: >-
      !object.spec.?hostNetwork.orValue(false) && !object.spec.?hostPID.orValue(false)
      && !object.spec.?hostIPC.orValue(false) && object.spec.?nodeName.orValue("") == ""
      && variables.containers.all(c, c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0))
  - message: the launcher's pods run as the user of its release's workers, and cannot become another
    expression: >-
      object.spec.?securityContext.?runAsNonRoot.orValue(false)
      && object.spec.?securityContext.?runAsUser.orValue(-1) in variables.users
      && variables.containers.all(c, !c.?securityContext.?privileged.orValue(false)
      && !c.?securityContext.?allowPrivilegeEscalation.orValue(true)
      && c.?securityContext.?runAsNonRoot.orValue(true)
      && c.?securityContext.?runAsUser.orValue(object.spec.securityContext.runAsUser) in variables.users
      && c.?securityContext.?capabilities.?drop.orValue([]).exists(d, d == "ALL")
      && c.?securityContext.?capabilities.?add.orValue([]).size() == 0
      && c.?securityContext.?procMount.orValue("Default") == "Default")
  - message: the launcher's pods have a seccomp profile
    expression: >-
      object.spec.?securityContext.?seccompProfile.?type.orValue("") in ["RuntimeDefault", "Localhost"]
      && variables.containers.all(c,
      c.?securityContext.?seccompProfile.?type.orValue("RuntimeDefault") in ["RuntimeDefault", "Localhost"])
  - message: the launcher's pods have priority and runtime class of its release alone
    expression: >-
      object.spec.?runtimeClassName.orValue("") in {{ append $parts.runtimeClasses "" | toJson }}
      && (!object.spec.?priorityClassName.orValue("").startsWith("system-")
      || object.spec.priorityClassName in {{ toJson $parts.priorityClasses }})
{{- end -}}
