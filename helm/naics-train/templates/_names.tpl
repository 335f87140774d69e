{{/* Names and labels. */}}

{{- define "naics-train.name" -}}
{{- default .Chart.Name .Values.nameOverride -}}
{{- end }}

{{/*
At most 41 characters: the run adds a dash and 8 digits, and the host name of a pod, which may have
63, up to 13 more, such as -worker-0-999. An operator makes Services of it, so a letter comes first.
*/}}
{{- define "naics-train.fullname" -}}
{{- $name := include "naics-train.name" . -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- $full = $full | trunc 41 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $full) -}}
{{- fail (printf "fullnameOverride: the name %q cannot name a Service: set fullnameOverride to small letters, digits and dashes, a letter first" $full) -}}
{{- end -}}
{{- $full -}}
{{- end }}

{{/*
Name of this run: it changes with everything of the run that cannot be changed in place. It is worked
out once and kept beside the values, since every template asks for it.
*/}}
{{- define "naics-train.run" -}}
{{- if not (hasKey .Values "_run") -}}
{{- $spec := include "naics-train.spec" (dict "root" . "run" "RUN" "hashed" true) -}}
{{- $digest := printf "%s\n%s" (include "naics-train.configYaml" .) $spec | sha256sum | trunc 8 -}}
{{- $_ := set .Values "_run" (printf "%s-%s" (include "naics-train.fullname" .) $digest) -}}
{{- end -}}
{{- get .Values "_run" -}}
{{- end }}

{{/* What the labels of an object and of a pod have in common. */}}
{{- define "naics-train.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "naics-train.labels" -}}
{{ include "naics-train.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a pod of the run: none that changes with the chart, for a Job's template is final. */}}
{{- define "naics-train.podLabels" -}}
{{- $root := .root -}}
{{ include "naics-train.selectorLabels" $root }}
app.kubernetes.io/component: trainer
naics.dev/run: {{ .run }}
sidecar.istio.io/inject: {{ $root.Values.istioInject | quote }}
{{- with merge (dict) $root.Values.podLabels $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
Metadata of an object that belongs to a run, or to all runs of the release. Arguments: root, name,
and run, component, labels, annotations where they apply.
*/}}
{{- define "naics-train.metadata" -}}
{{- $root := .root -}}
{{- $annotations := merge (dict) (.annotations | default dict) $root.Values.commonAnnotations -}}
{{- if and $root.Values.run.keep (not .hook) -}}
{{- $_ := set $annotations "helm.sh/resource-policy" "keep" -}}
{{- end -}}
name: {{ .name }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "naics-train.labels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ .component | default "trainer" }}
  {{- with .run }}
  naics.dev/run: {{ . }}
  {{- end }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "naics-train.serviceAccountName" -}}
{{- $none := ternary (include "naics-train.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $none .Values.serviceAccount.name -}}
{{- end }}
