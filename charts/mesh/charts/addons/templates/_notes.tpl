{{/* Also in the notes of the umbrella chart. Argument: the namespace. */}}
{{- define "addons.notes" -}}
Prometheus:  kubectl -n {{ . }} port-forward service/prometheus 9090
Grafana:     any; add http://prometheus.{{ . }}:9090 as a data source and import Istio's dashboards (7639, 7636, 7630, 7645)
Kiali:       its own chart, with --set external_services.prometheus.url=http://prometheus.{{ . }}:9090
Jaeger:      its own chart; proxies send no spans yet
{{- end -}}
