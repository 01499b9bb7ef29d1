{{/* "true" for a CRD that is there and is not this release's. Arguments: root, name. */}}
{{- define "base.foreign" -}}
{{- with lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name -}}
{{- $notes := .metadata.annotations | default dict -}}
{{- $release := printf "%s/%s" $.root.Release.Namespace $.root.Release.Name -}}
{{- if ne (printf "%s/%s" (get $notes "meta.helm.sh/release-namespace") (get $notes "meta.helm.sh/release-name")) $release }}true{{ end -}}
{{- end -}}
{{- end -}}

{{/* Names of the CRDs that are left to others, separated by blanks. */}}
{{- define "base.foreignNames" -}}
{{- range $path, $bytes := .Files.Glob "files/crds/*.yaml" -}}
{{- $crd := $.Files.Get $path | fromYaml -}}
{{- if eq (include "base.foreign" (dict "root" $ "name" $crd.metadata.name)) "true" }}{{ $crd.metadata.name }} {{ end -}}
{{- end -}}
{{- end -}}

{{- define "base.labels" -}}
app: istio
release: {{ .Release.Name }}
app.kubernetes.io/name: istio
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: istio
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
