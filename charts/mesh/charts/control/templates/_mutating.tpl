{{/* One webhook for injection, without its selectors. Arguments: root, prefix. The CA bundle is written by mesh-control. */}}
{{- define "control.webhook" -}}
- name: {{ .prefix }}.sidecar-injector.istio.io
  clientConfig:
    service:
      name: {{ include "control.name" .root }}
      namespace: {{ .root.Release.Namespace }}
      path: /inject
      port: 443
  rules:
    - operations: [CREATE]
      apiGroups: [""]
      apiVersions: [v1]
      resources: [pods]
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  reinvocationPolicy: {{ .root.Values.sidecarInjectorWebhook.reinvocationPolicy }}
{{- end -}}

{{/* Namespaces and pods that ask for a revision, or for a tag of it. Arguments: root, tag. */}}
{{- define "control.webhooksOfRevision" -}}
{{ include "control.webhook" (dict "root" .root "prefix" "rev.namespace") }}
  namespaceSelector:
    matchExpressions:
      - {key: istio.io/rev, operator: In, values: [{{ .tag | quote }}]}
      - {key: istio-injection, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
      - {key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}
{{ include "control.webhook" (dict "root" .root "prefix" "rev.object") }}
  namespaceSelector:
    matchExpressions:
      - {key: istio.io/rev, operator: DoesNotExist}
      - {key: istio-injection, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
      - {key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}
      - {key: istio.io/rev, operator: In, values: [{{ .tag | quote }}]}
{{- end -}}

{{/* Namespaces with istio-injection=enabled and pods with sidecar.istio.io/inject=true: for one control plane only. */}}
{{- define "control.webhooksOfDefault" -}}
{{ include "control.webhook" (dict "root" . "prefix" "namespace") }}
  namespaceSelector:
    matchExpressions:
      - {key: istio-injection, operator: In, values: [enabled]}
  objectSelector:
    matchExpressions:
      - {key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}
{{ include "control.webhook" (dict "root" . "prefix" "object") }}
  namespaceSelector:
    matchExpressions:
      - {key: istio-injection, operator: DoesNotExist}
      - {key: istio.io/rev, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
      - {key: sidecar.istio.io/inject, operator: In, values: ["true"]}
      - {key: istio.io/rev, operator: DoesNotExist}
{{- if .Values.sidecarInjectorWebhook.enableNamespacesByDefault }}
{{- if semverCompare "<1.21-0" .Capabilities.KubeVersion.Version }}
{{- fail "sidecarInjectorWebhook.enableNamespacesByDefault needs Kubernetes 1.21 or newer: older servers do not label namespaces with their names, so kube-system could not be left out. Label the namespaces with istio-injection=enabled" }}
{{- end }}
{{ include "control.webhook" (dict "root" . "prefix" "auto") }}
  namespaceSelector:
    matchExpressions:
      - {key: istio-injection, operator: DoesNotExist}
      - {key: istio.io/rev, operator: DoesNotExist}
      - {key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system, kube-public, kube-node-lease, local-path-storage]}
  objectSelector:
    matchExpressions:
      - {key: sidecar.istio.io/inject, operator: DoesNotExist}
      - {key: istio.io/rev, operator: DoesNotExist}
{{- end }}
{{- end -}}

{{- define "control.mutating" -}}
{{- if not (or .Values.global.operatorManageWebhooks .Values.global.omitSidecarInjectorConfigMap) }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: {{ include "control.injector" . }}
  labels:
    {{- include "control.injectorLabels" . | nindent 4 }}
  {{- with .Values.pilot.sidecarInjectorWebhookAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
webhooks:
  {{- include "control.webhooksOfRevision" (dict "root" . "tag" (include "control.rev" .)) | nindent 2 }}
  {{- if not .Values.revision }}
  {{- include "control.webhooksOfDefault" . | nindent 2 }}
  {{- end }}
{{- range $tag := .Values.revisionTags }}
{{- if eq $tag (include "control.rev" $) }}
{{- fail (printf "revisionTags: %q is this control plane's own name already; leave it out, or set revision" $tag) }}
{{- end }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: istio-revision-tag-{{ $tag }}{{ if ne $.Release.Namespace "istio-system" }}-{{ $.Release.Namespace }}{{ end }}
  labels:
    {{- include "control.injectorLabels" $ | nindent 4 }}
    istio.io/tag: {{ $tag | quote }}
webhooks:
  {{- include "control.webhooksOfRevision" (dict "root" $ "tag" $tag) | nindent 2 }}
  {{- if eq $tag "default" }}
  {{- include "control.webhooksOfDefault" $ | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Labels by which mesh-control finds the configurations whose CA bundle it keeps. */}}
{{- define "control.injectorLabels" -}}
{{ include "control.labels" . | replace "app: istiod" "app: sidecar-injector" }}
{{- end -}}
