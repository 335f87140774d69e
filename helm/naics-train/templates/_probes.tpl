{{/*
Probes of the first process's port. The processes answer once all pods have met, and a Service of
the v1 operator names only pods that are ready: with a startup or readiness probe, several pods of a
PyTorchJob would wait for each other's name. So there the question about progress just starts later.
*/}}
{{- define "naics-train.probes" -}}
{{- $probes := .Values.probes -}}
{{- if .Values.metrics.enabled }}
{{- $blind := and (eq .Values.kind "PyTorchJob") (gt (int .Values.nodes) 1) }}
livenessProbe:
  {{- include "naics-train.probe" (list "/healthz" $probes) | nindent 2 }}
  failureThreshold: {{ $probes.failureThreshold }}
  {{- if $blind }}
  initialDelaySeconds: {{ $probes.startupSeconds }}
  {{- else }}
readinessProbe:
  {{- include "naics-train.probe" (list "/readyz" $probes) | nindent 2 }}
startupProbe:
  {{- include "naics-train.probe" (list "/healthz" $probes) | nindent 2 }}
  failureThreshold: {{ divf $probes.startupSeconds $probes.periodSeconds | ceil | int }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "naics-train.probe" -}}
{{- $probes := index . 1 -}}
httpGet:
  path: {{ index . 0 }}
  port: metrics-0
periodSeconds: {{ $probes.periodSeconds }}
timeoutSeconds: {{ $probes.timeoutSeconds }}
{{- end }}
