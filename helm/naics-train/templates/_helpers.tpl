{{/* Parts shared by the pods that are not the run's: of helm test and of hooks. */}}

{{- define "naics-train.helperContainer" -}}
resources:
  requests:
    cpu: 100m
    memory: 512Mi
  limits:
    memory: 1Gi
securityContext:
  {{- include "naics-train.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: scratch
    mountPath: /scratch
{{- end }}

{{- define "naics-train.kueueLabels" -}}
{{- with .Values.kueue.queue -}}
kueue.x-k8s.io/queue-name: {{ . }}
{{ end -}}
{{- with .Values.kueue.priorityClass -}}
kueue.x-k8s.io/priority-class: {{ . }}
{{ end -}}
{{- end }}

{{- define "naics-train.hookName" -}}
{{ include "naics-train.fullname" . }}-cancel
{{- end }}

{{/*
Annotations of a hook that runs before anything else, at the weight given, and is gone after it. Before
an install too: the release may have left a run when it was uninstalled.
*/}}
{{- define "naics-train.hookAnnotations" -}}
helm.sh/hook: pre-install,pre-upgrade,pre-rollback
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* Seconds for a run to save, stop and be gone. */}}
{{- define "naics-train.cancelSeconds" -}}
{{- add (include "naics-train.gracePeriod" . | int) 60 -}}
{{- end }}
