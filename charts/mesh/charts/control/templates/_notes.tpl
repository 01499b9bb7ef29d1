{{/* What to do next; also in the notes of the umbrella chart. */}}
{{- define "control.notes" -}}
{{- $label := ternary "istio-injection=enabled" (printf "istio.io/rev=%s" .Values.revision) (empty .Values.revision) -}}
The control plane {{ include "control.name" . }} is being installed in {{ .Release.Namespace }}. Wait for it:
  kubectl -n {{ .Release.Namespace }} rollout status deployment/{{ include "control.name" . }}

Bring a namespace into the mesh, and restart what runs in it:
  kubectl label namespace default {{ $label }}
  kubectl -n default rollout restart deployment

Each of its pods then has the container istio-proxy. See which proxies are up to date:
  meshctl proxy-status
{{- if eq .Values.global.hub "localhost/ferromesh" }}

Images come from localhost/ferromesh: they must have been loaded into the nodes (cargo xtask images makes them). To take
them from a registry: --set global.hub=REGISTRY/FOLDER
{{- end }}
{{- end -}}
