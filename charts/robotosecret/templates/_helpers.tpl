{{/* The name of everything: the release's name when it already says robotosecret, else release-robotosecret. */}}
{{- define "robotosecret.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Never changes in a release's life: a Deployment's selector can't be edited. */}}
{{- define "robotosecret.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "robotosecret.labels" -}}
{{ include "robotosecret.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "robotosecret.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "robotosecret.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "robotosecret.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The rights in a namespace: in the ClusterRole with scope cluster, in one Role a namespace with scope namespaces. */}}
{{- define "robotosecret.namespacedRules" -}}
# What users ask for. patch: the finalizer of a RobotoSecret that merges into a Secret of others, so that its keys are taken
# out before it goes. RBAC can't say "only metadata.finalizers", so this right edits every RobotoSecret in its scope; the
# controller patches nothing else of them, and never a spec.
- apiGroups: [robotosecret.dev]
  resources: [robotosecrets]
  verbs: [get, list, watch, patch]
# What came of it: written by server-side apply, which is a patch.
- apiGroups: [robotosecret.dev]
  resources: [robotosecrets/status]
  verbs: [patch]
# Our ownerReference sets blockOwnerDeletion; clusters with the admission plugin OwnerReferencesPermissionEnforcement
# ask for this right before they accept it.
- apiGroups: [robotosecret.dev]
  resources: [robotosecrets/finalizers]
  verbs: [update]
# The mirrored Secrets. create: a new one; patch: every later write; delete: a renamed target or a changed type;
# get, list, watch: metadata only, to see drift. RBAC can't say "metadata only" or "only ours", so this right
# reads and changes every Secret in its scope: guard this ServiceAccount accordingly.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# Templates that RobotoSecrets of the same namespace keep in ConfigMaps (spec.target.template.from): get for the text, list and
# watch, metadata only and from the first such RobotoSecret on, to see a change.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
# Events on RobotoSecrets; patch counts a repeated one up instead of making another.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.rollout.enabled }}
# Restarts after a rotation: one annotation on the pod template. The right to patch a workload is the right to run one; the
# admission policy in rollout.yaml takes it back to that annotation. Not create: what isn't there is never made.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [patch]
{{- end }}
{{- end -}}
