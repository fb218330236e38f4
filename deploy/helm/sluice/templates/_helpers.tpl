{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sluice.meta" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "sluice.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/component: {{ .Values.role }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The same for what the Prometheus operator reads, which picks it out by labels of the operator's choice. */ -}}
{{- define "sluice.monitoring" -}}
{{- $meta := include "sluice.meta" . | fromYaml -}}
{{- set $meta "labels" (merge (dict) .Values.serviceMonitor.labels $meta.labels) | toYaml -}}
{{- end }}

{{- /* The names by which clients call it; probes come by address, and are not asked for one. */ -}}
{{- define "sluice.hosts" -}}
{{- $name := .Release.Name -}}
{{- $inside := printf "%s.%s.svc" $name .Release.Namespace -}}
{{- $hosts := list "localhost" "127.0.0.1" $name (printf "%s.%s" $name .Release.Namespace) $inside -}}
{{- $hosts = append $hosts (printf "%s.cluster.local" $inside) -}}
{{- $hosts = concat $hosts .Values.allowedHosts -}}
{{- if .Values.ingress.enabled }}{{ $hosts = append $hosts .Values.ingress.host }}{{ end -}}
{{- join "," $hosts -}}
{{- end }}
