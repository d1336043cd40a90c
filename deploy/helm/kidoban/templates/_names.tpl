{{- define "kidoban.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- define "kidoban.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "kidoban.labels" -}}
{{ include "kidoban.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
{{- define "kidoban.config" -}}
{{- $fixed := dict "public_url" .Values.publicURL "listen" "0.0.0.0:8787" "database_file" "/run/kidoban/database_url" "vault_key" "file:/run/kidoban/vault.key" "drain" (printf "%ds" (int .Values.drainSeconds)) -}}
{{- $telemetry := deepCopy (default dict .Values.config.telemetry) -}}
{{- if .Values.metrics.enabled }}{{ $_ := set $telemetry "metrics" "0.0.0.0:9464" }}{{ end -}}
{{- if $telemetry }}{{ $_ := set $fixed "telemetry" $telemetry }}{{ end -}}
{{- merge $fixed (deepCopy .Values.config) | toYaml }}
{{- end }}
