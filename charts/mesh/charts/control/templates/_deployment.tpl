{{- define "control.deployment" -}}
{{- $pilot := .Values.pilot -}}
{{- $name := include "control.name" . -}}
{{- $any := has "IPv6" $pilot.ipFamilies | ternary "[::]" "0.0.0.0" -}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
    istio: pilot
    {{- with $pilot.deploymentLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if not $pilot.autoscaleEnabled }}
  replicas: {{ $pilot.replicaCount }}
  {{- end }}
  strategy:
    rollingUpdate:
      maxSurge: {{ $pilot.rollingMaxSurge }}
      maxUnavailable: {{ $pilot.rollingMaxUnavailable }}
  selector:
    matchLabels:
      {{- include "control.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "control.labels" . | nindent 8 }}
        istio: {{ empty .Values.revision | ternary "pilot" "istiod" }}
        # Nobody injects the injector.
        sidecar.istio.io/inject: "false"
        {{- with $pilot.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "15014"
        sidecar.istio.io/inject: "false"
        {{- with $pilot.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      {{- with .Values.global.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $pilot.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $pilot.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $pilot.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $pilot.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        fsGroup: 1337
        runAsNonRoot: true
        {{- with $pilot.seccompProfile }}
        seccompProfile:
          {{- toYaml . | nindent 10 }}
        {{- end }}
      {{- with $pilot.initContainers }}
      initContainers:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: discovery
          image: {{ include "control.image" . | quote }}
          {{- with .Values.global.imagePullPolicy }}
          imagePullPolicy: {{ . }}
          {{- end }}
          command: [mesh-control]
          args:
            - serve
            - --source=kubernetes
            {{- if has "IPv6" $pilot.ipFamilies }}
            - "--listen=::"
            {{- end }}
            - "--grpc-addr={{ $any }}:15010"
            {{- if .Values.global.logAsJson }}
            - --log-json
            {{- end }}
            {{- with $pilot.extraContainerArgs }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: grpc-xds
              containerPort: 15010
              protocol: TCP
            - name: https-dns
              containerPort: 15012
              protocol: TCP
            - name: https-webhook
              containerPort: 15017
              protocol: TCP
            - name: http-monitoring
              containerPort: 15014
              protocol: TCP
          readinessProbe:
            httpGet:
              path: /ready
              port: 15014
            initialDelaySeconds: 1
            periodSeconds: 3
            timeoutSeconds: 5
          {{- with $pilot.envVarFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          env:
            - name: REVISION
              value: {{ include "control.rev" . | quote }}
            - name: POD_NAME
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
            - name: POD_NAMESPACE
              valueFrom:
                fieldRef:
                  fieldPath: metadata.namespace
            - name: CLUSTER_ID
              value: {{ .Values.global.multiCluster.clusterName | default "Kubernetes" | quote }}
            - name: MESH_LOG
              value: {{ include "control.log" . | quote }}
            - name: MESH_CA_DIR
              value: /var/run/secrets/istio-dns
            {{- range $key, $value := $pilot.env }}
            - name: {{ $key }}
              value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
            {{- end }}
          resources:
            {{- toYaml $pilot.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            runAsNonRoot: true
            runAsUser: 1337
            runAsGroup: 1337
            capabilities:
              drop: [ALL]
          volumeMounts:
            - name: local-certs
              mountPath: /var/run/secrets/istio-dns
            {{- with $pilot.volumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        # Keys in use: in memory only.
        - name: local-certs
          emptyDir:
            medium: Memory
        {{- with $pilot.volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
