{{- define "control.rbac" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ include "control.clusterRole" . }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
rules:
  # What runs where: services, workloads and where they are.
  - apiGroups: [""]
    resources: [namespaces, services, endpoints, pods, nodes]
    verbs: [get, list, watch]
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [get, list, watch]
  # Settings of the mesh, and certificates that Gateways name by credentialName.
  - apiGroups: [""]
    resources: [configmaps, secrets]
    verbs: [get, list, watch]
  # Istio's kinds, in whichever version is served.
  - apiGroups: [networking.istio.io, security.istio.io, telemetry.istio.io, extensions.istio.io]
    resources: ["*"]
    verbs: [get, list, watch]
  - apiGroups: [networking.istio.io, security.istio.io, telemetry.istio.io, extensions.istio.io]
    resources: ["*/status"]
    verbs: [update, patch]
  # Workloads outside of the cluster register themselves.
  - apiGroups: [networking.istio.io]
    resources: [workloadentries]
    verbs: [create, update, patch, delete]
  - apiGroups: [gateway.networking.k8s.io]
    resources: ["*"]
    verbs: [get, list, watch]
  - apiGroups: [gateway.networking.k8s.io]
    resources: ["*/status"]
    verbs: [update, patch]
  - apiGroups: [gateway.networking.k8s.io]
    resources: [gatewayclasses]
    verbs: [create, update, patch]
  - apiGroups: [networking.k8s.io]
    resources: [ingresses, ingressclasses]
    verbs: [get, list, watch]
  - apiGroups: [networking.k8s.io]
    resources: [ingresses/status]
    verbs: [update, patch]
  # Which of Istio's and Gateway API's kinds there are.
  - apiGroups: [apiextensions.k8s.io]
    resources: [customresourcedefinitions]
    verbs: [get, list, watch]
  # The root certificate, for the pods of every namespace. A rule for `create` cannot name objects.
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [create]
  - apiGroups: [""]
    resources: [configmaps]
    resourceNames: [istio-ca-root-cert]
    verbs: [update, patch]
  # Whether a caller is who it says, and whether a gateway may read a Secret.
  - apiGroups: [authentication.k8s.io]
    resources: [tokenreviews]
    verbs: [create]
  - apiGroups: [authorization.k8s.io]
    resources: [subjectaccessreviews]
    verbs: [create]
  # The webhooks' CA bundle. Those of revision tags are made later, by name unknown here.
  - apiGroups: [admissionregistration.k8s.io]
    resources: [mutatingwebhookconfigurations, validatingwebhookconfigurations]
    verbs: [get, list, watch, update, patch]
  # Its own role, as the owner of what is written into other namespaces: that goes when the role goes.
  - apiGroups: [rbac.authorization.k8s.io]
    resources: [clusterroles]
    resourceNames: [{{ include "control.clusterRole" . }}]
    verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "control.clusterRole" . }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "control.clusterRole" . }}
subjects:
  - kind: ServiceAccount
    name: {{ include "control.name" . }}
    namespace: {{ .Release.Namespace }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ include "control.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
rules:
  # The key of the CA.
  - apiGroups: [""]
    resources: [secrets]
    verbs: [create]
  - apiGroups: [""]
    resources: [secrets]
    resourceNames: [istio-ca-secret]
    verbs: [update, patch]
  # Gateways that were made before the webhook wait for the image "auto"; deleted, they are made anew.
  - apiGroups: [""]
    resources: [pods]
    verbs: [delete]
  # One replica at a time writes status, webhooks and the CA's key.
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    verbs: [get, list, watch, create, update, patch, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "control.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ include "control.name" . }}
subjects:
  - kind: ServiceAccount
    name: {{ include "control.name" . }}
    namespace: {{ .Release.Namespace }}
{{- end -}}
