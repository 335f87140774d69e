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
Metadata of a hook that runs before anything else and is gone after it. Before an install too: the
release may have left a run when it was uninstalled. Arguments: root, weight.
*/}}
{{- define "naics-train.hookMetadata" -}}
{{- $when := dict "helm.sh/hook" "pre-install,pre-upgrade,pre-rollback" "helm.sh/hook-weight" .weight "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" -}}
{{- include "naics-train.metadata" (dict "root" .root "name" (include "naics-train.hookName" .root) "component" "cancel" "hook" true "annotations" $when) }}
{{- end }}

{{/* Seconds for a run to save, stop and be gone. */}}
{{- define "naics-train.cancelSeconds" -}}
{{- add (include "naics-train.gracePeriod" . | int) 60 -}}
{{- end }}
