{{- define "control.service" -}}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "control.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
    istio: pilot
  {{- with .Values.pilot.serviceAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .Values.pilot.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  {{- with .Values.pilot.ipFamilies }}
  ipFamilies:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    # Configuration in the clear.
    - name: grpc-xds
      port: 15010
      protocol: TCP
    # Configuration and certificates over TLS.
    - name: https-dns
      port: 15012
      protocol: TCP
    # Injection and validation, called by the API server.
    - name: https-webhook
      port: 443
      targetPort: 15017
      protocol: TCP
    # Metrics, readiness and debug pages.
    - name: http-monitoring
      port: 15014
      protocol: TCP
  selector:
    {{- include "control.selector" . | nindent 4 }}
{{- end -}}
