{{- define "cni.labels" -}}
app: istio-cni
k8s-app: istio-cni-node
release: {{ .Release.Name }}
operator.istio.io/component: Cni
app.kubernetes.io/name: istio-cni
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: istio
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "cni.tag" -}}
{{ .Values.tag | default .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The image: `image` alone where it has a slash, else hub/image:tag. */}}
{{- define "cni.image" -}}
{{- if contains "/" .Values.image -}}
{{ .Values.image }}
{{- else -}}
{{ .Values.hub | default .Values.global.hub }}/{{ .Values.image }}:{{ include "cni.tag" . }}
{{- end -}}
{{- end -}}

{{/* Folder of CNI plugins on the nodes; Google's nodes have their own. */}}
{{- define "cni.binDir" -}}
{{- $usual := contains "-gke" .Capabilities.KubeVersion.Version | ternary "/home/kubernetes/bin" "/opt/cni/bin" -}}
{{ .Values.cniBinDir | default $usual }}
{{- end -}}
